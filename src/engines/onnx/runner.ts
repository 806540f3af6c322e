import type { InferenceSession, OnnxValue, Tensor as OrtTensor } from 'onnxruntime-node';

import { InferkvError } from '../../base/errors.ts';
import {
  elementCount,
  ELEMENT_BYTES,
  byteLengthOf,
  isStrings,
  isTensorType,
  numericView,
  type NumericData,
  type Tensor,
  type TensorType,
} from '../../base/tensor.ts';
import type { TensorSpec } from '../engine.ts';
import { transferable, type ModelRunner, type RunReply } from '../model-thread.ts';
import type { NamedTensor, Notice, RunRequest } from '../worker-protocol.ts';
import type { OrtModule } from './peer.ts';

type Shape = readonly number[];

/** ONNX models always say of what type their inputs and outputs are. */
interface OrtSpec extends TensorSpec {
  readonly type: TensorType;
  readonly shape: readonly (number | string)[];
}

const LOG_FATAL = 4;

/** Bound of the memory of output shapes, by shapes of inputs; past it the oldest goes. */
const MAX_LEARNT = 64;

/** One session, in the thread it lives in. */
export class OrtRunner implements ModelRunner {
  readonly metadata: { readonly inputs: readonly OrtSpec[]; readonly outputs: readonly OrtSpec[] };
  readonly sharesWeights = false;
  readonly notices: readonly Notice[] = [];
  readonly #ort: OrtModule;
  readonly #session: InferenceSession;
  readonly #learnt = new Map<string, Map<string, Shape>>();
  readonly #unforeseeable = new Set<string>();

  private constructor(ort: OrtModule, session: InferenceSession) {
    this.#ort = ort;
    this.#session = session;
    this.metadata = {
      inputs: session.inputMetadata.map(specOf),
      outputs: session.outputMetadata.map(specOf),
    };
  }

  static async open(
    ort: OrtModule,
    model: Uint8Array,
    externalData: readonly { readonly path: string; readonly data: Uint8Array }[],
    threads: number,
    engine: Readonly<Record<string, unknown>>,
  ): Promise<OrtRunner> {
    const session = await ort.InferenceSession.create(model, sessionOptions(threads, externalData, engine));
    return new OrtRunner(ort, session);
  }

  async run(request: RunRequest): Promise<RunReply> {
    const feeds = Object.fromEntries(request.inputs.map(([name, each]) => [name, this.#toOrt(each)]));
    const signature = request.inputs.map(([name, { shape }]) => `${name}:${shape.join(',')}`).join(';');
    const learnt = this.#learnt.get(signature);
    const wanted = request.outputs ?? this.metadata.outputs.map(({ name }) => name);
    const { targets, foreseen } = this.#targets(request.into, wanted, learnt);
    const start = performance.now();
    let results: InferenceSession.OnnxValueMapType;
    try {
      results = await this.#session.run(feeds, this.#fetches(wanted, targets));
    } catch (error) {
      if (foreseen.length === 0) throw error;
      // Shapes that follow from values, not from shapes, cannot be foreseen: from now on ORT allocates those itself.
      for (const name of foreseen) {
        this.#unforeseeable.add(name);
        targets.delete(name);
      }
      results = await this.#session.run(feeds, this.#fetches(wanted, targets));
    }
    const computeMs = performance.now() - start;
    const outputs = wanted.map((name): NamedTensor => [name, targets.get(name) ?? fromOrt(name, results[name])]);
    if (learnt === undefined || wanted.some((name) => !learnt.has(name))) this.#learn(signature, outputs);
    return { reply: { kind: 'done', outputs, computeMs }, transfer: transferable(outputs) };
  }

  async release(): Promise<void> {
    await this.#session.release();
  }

  /** Memory for the outputs whose shapes are known before the run; `foreseen` are those known only from earlier runs. */
  #targets(
    given: RunRequest['into'],
    wanted: readonly string[],
    learnt: ReadonlyMap<string, Shape> | undefined,
  ): { targets: Map<string, Tensor>; foreseen: string[] } {
    const into = new Map(given);
    const targets = new Map<string, Tensor>();
    const foreseen: string[] = [];
    for (const { name, type, shape } of this.metadata.outputs) {
      if (!wanted.includes(name) || type === 'string' || ELEMENT_BYTES[type] < 1) continue;
      const declared = shape.every((size) => typeof size === 'number') ? shape : undefined;
      const known = declared ?? (this.#unforeseeable.has(name) ? undefined : learnt?.get(name));
      if (known === undefined || elementCount(known) === 0) continue;
      if (declared === undefined) foreseen.push(name);
      const data =
        fitting(into.get(name), type, known) ?? numericView(type, known, new ArrayBuffer(byteLengthOf(type, known)));
      targets.set(name, { type, shape: known, data });
    }
    return { targets, foreseen };
  }

  #fetches(names: readonly string[], targets: ReadonlyMap<string, Tensor>): InferenceSession.FetchesType {
    return Object.fromEntries(
      names.map((name) => {
        const target = targets.get(name);
        return [name, target === undefined ? null : this.#toOrt(target)];
      }),
    );
  }

  #learn(signature: string, outputs: readonly NamedTensor[]): void {
    const shapes = this.#learnt.get(signature) ?? new Map<string, Shape>();
    for (const [name, { shape }] of outputs) shapes.set(name, shape);
    this.#learnt.set(signature, shapes);
    const [oldest] = this.#learnt.keys();
    if (this.#learnt.size > MAX_LEARNT && oldest !== undefined) this.#learnt.delete(oldest);
  }

  #toOrt({ type, shape, data }: Tensor): OrtTensor {
    if (type !== 'float16' || isStrings(data)) return new this.#ort.Tensor(type, data as Float32Array, shape);
    // The binding takes the bytes of a Float16Array for none, so it gets them as what it knows, under the right name.
    const bits = new Uint16Array(data.buffer, data.byteOffset, data.length);
    return Object.assign(new this.#ort.Tensor('uint16', bits, shape), { type });
  }
}

/** The part of a caller's memory that an output fills, if type and size suit. */
function fitting(target: Tensor | undefined, type: Tensor['type'], shape: Shape): NumericData | undefined {
  if (target === undefined || target.type !== type || isStrings(target.data)) return undefined;
  const count = elementCount(shape);
  return target.data.length < count ? undefined : target.data.subarray(0, count);
}

function fromOrt(name: string, result: OnnxValue | undefined): Tensor {
  const { type, dims, data } = (result ?? {}) as Partial<OrtTensor>;
  if (!isTensorType(type) || dims === undefined || data === undefined) {
    throw new InferkvError('ERR_INFERKV_ENGINE_FAILED', `The output "${name}" is no tensor of a known type.`);
  }
  return { type, shape: dims, data };
}

function specOf(metadata: InferenceSession.ValueMetadata): OrtSpec {
  if (metadata.isTensor && isTensorType(metadata.type)) {
    return { name: metadata.name, type: metadata.type, shape: metadata.shape };
  }
  throw new Error(`"${metadata.name}" is no tensor; sequences, maps and optional values are not supported`);
}

function sessionOptions(
  threads: number,
  externalData: readonly { readonly path: string; readonly data: Uint8Array }[],
  engine: Readonly<Record<string, unknown>>,
): InferenceSession.SessionOptions {
  const { extra = {}, ...rest } = engine as { extra?: { session?: object } };
  return {
    // What goes wrong is thrown; it need not be written to standard error as well.
    logSeverityLevel: LOG_FATAL,
    ...rest,
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    ...(externalData.length > 0 && { externalData: [...externalData] }),
    // Spinning threads take cores from other models' runs and gain nothing measurable (docs/design-decisions.md).
    extra: { ...extra, session: { intra_op: { allow_spinning: '0' }, ...extra.session } },
  };
}
