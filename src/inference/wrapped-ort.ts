import { copyTensors, type Tensor, type Tensors } from '../base/tensor.ts';
import type { Answer, CachedIdentity, Computation, RequestOptions, ResultCache } from './result-cache.ts';

/** A tensor of onnxruntime, as far as it is needed here. */
export interface OrtTensorLike {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: unknown;
}

/** Tensors of onnxruntime by name. */
export type OrtTensors<T extends OrtTensorLike = OrtTensorLike> = Readonly<Record<string, T>>;

/** A session of onnxruntime-node or onnxruntime-web, as far as it is needed here. */
export interface OrtSessionLike {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(feeds: never, fetches?: never, options?: never): Promise<OrtTensors>;
}

type AnyRun = (feeds: OrtTensors, ...rest: unknown[]) => Promise<OrtTensors>;
type OrtTensorClass = new (type: string, data: unknown, dims: readonly number[]) => OrtTensorLike;

/** A wrapped session: goes on being what it was, and says how its last answers came about. */
export type WrappedOrtSession<S extends OrtSessionLike> = S & {
  /** Runs as `run` does, and tells how the answer came about. */
  runCached(feeds: OrtTensors, options?: RequestOptions): Promise<{ outputs: OrtTensors; cache: Answer['cache'] }>;
};

/**
 * Keeps the results of an onnxruntime session that somebody else holds. The session runs where it lives, in its holder's
 * thread, and stays his to release. Calls that bring memory for the outputs or run options go straight to the session.
 */
export function wrapOrtSession<S extends OrtSessionLike>(
  session: S,
  identity: CachedIdentity,
  results: ResultCache,
): WrappedOrtSession<S> {
  const plainRun = session.run.bind(session) as unknown as AnyRun;

  const runCached = async (
    feeds: OrtTensors,
    options: RequestOptions = {},
  ): Promise<{ outputs: OrtTensors; cache: Answer['cache'] }> => {
    const [sample] = Object.values(feeds);
    const ortTensor = sample?.constructor as OrtTensorClass;
    const computation: Computation = {
      ...identity,
      keeps: true,
      ttlMs: undefined,
      maxEntryBytes: undefined,
      run: async (inputs) => {
        // onnxruntime reads its feeds a turn of the loop later; what is run must be what the key was made of.
        const own = toOrt(copyTensors(inputs), ortTensor);
        const start = performance.now();
        const outputs = await (options.outputs === undefined ? plainRun(own) : plainRun(own, options.outputs));
        return { outputs: fromOrt(outputs), computeMs: performance.now() - start };
      },
    };
    const answer = await results.answer(computation, fromOrt(feeds), options);
    return { outputs: toOrt(answer.outputs, ortTensor), cache: answer.cache };
  };

  const run: AnyRun = async (feeds, fetches, ...rest) => {
    const names = outputNames(fetches);
    if (names === 'special' || rest.length > 0 || !areCpuTensors(feeds)) return plainRun(feeds, fetches, ...rest);
    return (await runCached(feeds, { outputs: names })).outputs;
  };

  return new Proxy(session, {
    get(target, property) {
      if (property === 'run') return run;
      if (property === 'runCached') return runCached;
      const value: unknown = Reflect.get(target, property, target);
      // The session's own fields are private to it, so its methods must be called on it.
      return typeof value === 'function' ? value.bind(target) : value;
    },
  }) as WrappedOrtSession<S>;
}

/** The outputs that the second argument of `run` asks for; `special` where it is anything but names. */
function outputNames(fetches: unknown): readonly string[] | undefined | 'special' {
  if (fetches === undefined) return undefined;
  if (Array.isArray(fetches) && fetches.every((name) => typeof name === 'string')) return fetches;
  return 'special';
}

/** Whether there are feeds, and all of them tensors whose bytes are at hand; the session itself says what is wrong with others. */
function areCpuTensors(feeds: unknown): boolean {
  if (typeof feeds !== 'object' || feeds === null) return false;
  const tensors = Object.values(feeds) as (Partial<OrtTensorLike & { location: string }> | undefined)[];
  return tensors.length > 0 && tensors.every((each) => Array.isArray(each?.dims) && (each.location ?? 'cpu') === 'cpu');
}

function fromOrt(tensors: OrtTensors): Tensors {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { type, dims, data }]) => [name, { type, shape: dims, data } as Tensor]),
  );
}

function toOrt(tensors: Tensors, ortTensor: OrtTensorClass): OrtTensors {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { type, shape, data }]) => [name, new ortTensor(type, data, shape)]),
  );
}
