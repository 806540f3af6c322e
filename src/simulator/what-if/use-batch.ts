/** Uses in one batch: those of the sample, and the few that stand for all. */
const CAPACITY = 4096;

/** It stands for all uses of its turn. */
export const NOTED = 1;
/** It is the last of its request that is here. */
export const ENDS_REQUEST = 2;
/** It is of a chain. */
export const CHAINED = 4;

/** The columns of a batch, as they go from thread to thread. */
export interface UseColumns {
  readonly hashes: Int32Array<ArrayBuffer>;
  readonly sizes: Float64Array<ArrayBuffer>;
  readonly costs: Float64Array<ArrayBuffer>;
  readonly flags: Uint8Array<ArrayBuffer>;
  readonly length: number;
}

/** Uses that have been picked out of all, until they are replayed. */
export class UseBatch {
  #columns = newColumns();
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Adds a use by its keyed hash; `true` if the batch is full now. */
  add(hash: number, sizeBytes: number, costMs: number, flags: number): boolean {
    const at = this.#length++;
    const columns = this.#columns;
    columns.hashes[at] = hash;
    columns.sizes[at] = sizeBytes;
    columns.costs[at] = costMs;
    columns.flags[at] = flags;
    return this.#length === CAPACITY;
  }

  /** Marks what was added last. */
  mark(flags: number): void {
    const at = this.#length - 1;
    this.#columns.flags[at] = (this.#columns.flags[at] as number) | flags;
  }

  /** What is in, to be read before anything is added. */
  view(): UseColumns {
    return { ...this.#columns, length: this.#length };
  }

  /** Gives what is in away; the batch has other memory from then on. */
  take(): UseColumns {
    const columns = this.view();
    this.#columns = newColumns();
    this.#length = 0;
    return columns;
  }

  clear(): void {
    this.#length = 0;
  }
}

function newColumns(): Omit<UseColumns, 'length'> {
  // A chain may be longer than what is left; it is cut then, which a request in so many does not show.
  return {
    hashes: new Int32Array(CAPACITY),
    sizes: new Float64Array(CAPACITY),
    costs: new Float64Array(CAPACITY),
    flags: new Uint8Array(CAPACITY),
  };
}
