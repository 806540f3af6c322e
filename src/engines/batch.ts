/** Rows of several requests in one memory: the first dimension of every input and output. */
import type { SlabPool } from '../base/slab-pool.ts';
import { byteLengthOf, bytesOf, isStrings, numericView, type NumericData, type Tensors } from '../base/tensor.ts';
import type { RunResult } from './engine.ts';

/** One request's share of a batch. */
export interface BatchMember {
  readonly rows: number;
  /** The first of its rows; moves when a member before it leaves. */
  from: number;
  readonly resolve: (result: RunResult) => void;
  readonly reject: (error: unknown) => void;
}

interface JoinedInput {
  readonly type: Exclude<Tensors[string]['type'], 'string'>;
  readonly rowShape: readonly number[];
  readonly rowBytes: number;
  readonly slab: SharedArrayBuffer;
}

/** The number of rows, if all inputs have the same and at least one. */
export function rowsOf(inputs: Tensors): number | undefined {
  const [first, ...rest] = Object.values(inputs).map(({ shape }) => shape[0]);
  return first !== undefined && first > 0 && rest.every((rows) => rows === first) ? first : undefined;
}

/** Says which requests can share a run: those of equal inputs but for the number of rows, and of equal outputs. */
export function signatureOf(inputs: Tensors, outputs: readonly string[]): string {
  const shapes = Object.entries(inputs)
    .map(([name, { type, shape }]) => [name, type, shape.slice(1)])
    .toSorted(([a], [b]) => (String(a) < String(b) ? -1 : 1));
  return JSON.stringify([shapes, outputs]);
}

/** Rows of requests, one behind the other in shared memory, which a worker reads where they lie. */
export class Batch {
  readonly outputs: readonly string[];
  readonly #inputs: ReadonlyMap<string, JoinedInput>;
  readonly #slabs: SlabPool<SharedArrayBuffer>;
  readonly #members: BatchMember[] = [];
  #rows = 0;

  /** @param inputs of the first request; of them only names, types and shapes are used */
  constructor(inputs: Tensors, outputs: readonly string[], maxRows: number, slabs: SlabPool<SharedArrayBuffer>) {
    this.outputs = outputs;
    this.#slabs = slabs;
    this.#inputs = new Map(
      Object.entries(inputs).map(([name, { type, shape }]) => {
        const rowShape = shape.slice(1);
        const rowBytes = byteLengthOf(type, rowShape);
        return [name, { type: type as JoinedInput['type'], rowShape, rowBytes, slab: slabs.take(maxRows * rowBytes) }];
      }),
    );
  }

  get rows(): number {
    return this.#rows;
  }

  get members(): readonly BatchMember[] {
    return this.#members;
  }

  /** Copies a request's rows behind those that are there. */
  add(inputs: Tensors, rows: number, caller: Pick<BatchMember, 'resolve' | 'reject'>): BatchMember {
    const member: BatchMember = { ...caller, rows, from: this.#rows };
    for (const [name, { slab, rowBytes }] of this.#inputs) {
      new Uint8Array(slab).set(bytesOf(inputs[name]?.data as NumericData), this.#rows * rowBytes);
    }
    this.#members.push(member);
    this.#rows += rows;
    return member;
  }

  /** Takes a request's rows out again and closes the gap; `false` if it is not here. */
  remove(member: BatchMember): boolean {
    const at = this.#members.indexOf(member);
    if (at === -1) return false;
    const { from, rows } = member;
    for (const { slab, rowBytes } of this.#inputs.values()) {
      new Uint8Array(slab).copyWithin(from * rowBytes, (from + rows) * rowBytes, this.#rows * rowBytes);
    }
    this.#members.splice(at, 1);
    for (const later of this.#members.slice(at)) later.from -= rows;
    this.#rows -= rows;
    return true;
  }

  /** The inputs of one run for some rows; all of them if nothing is said. */
  inputs(from = 0, rows: number = this.#rows): Tensors {
    return Object.fromEntries(
      [...this.#inputs].map(([name, { type, rowShape, rowBytes, slab }]) => {
        const shape = [rows, ...rowShape];
        return [name, { type, shape, data: numericView(type, shape, slab, from * rowBytes) }];
      }),
    );
  }

  /** Each member's own outputs, copied, in the order of the members; `undefined` where an output has not one row for each. */
  split(outputs: Tensors): readonly Tensors[] | undefined {
    const all = Object.values(outputs);
    if (!all.every(({ shape, data }) => shape[0] === this.#rows && !isStrings(data))) return undefined;
    return this.#members.map(({ from, rows }) =>
      Object.fromEntries(
        Object.entries(outputs).map(([name, { type, shape, data }]) => {
          const rowElements = data.length / this.#rows;
          const own = (data as NumericData).slice(from * rowElements, (from + rows) * rowElements);
          return [name, { type, shape: [rows, ...shape.slice(1)], data: own }];
        }),
      ),
    );
  }

  /** Gives the memory back; nothing may read it any more. */
  release(): void {
    for (const { slab } of this.#inputs.values()) this.#slabs.give(slab);
  }
}
