import type { Tensors, TensorType } from '../base/tensor.ts';

/** A model on disk, named by the digest of its content. */
export interface Artifact {
  /** SHA-256 of the model's files, lower-case hex. */
  readonly digest: string;
  /** The model file, absolute. */
  readonly path: string;
  /** Bytes of all its files. */
  readonly sizeBytes: number;
  /** The model file first, then those it refers to (ONNX external data). */
  readonly files: readonly ArtifactFile[];
}

/** One file of an artifact. Engines check its digest on the very bytes they load. */
export interface ArtifactFile {
  /** Its name relative to the model file's folder, with forward slashes, as the model file spells it. */
  readonly name: string;
  readonly path: string;
  readonly sizeBytes: number;
  /** SHA-256 of its bytes alone, lower-case hex. */
  readonly digest: string;
}

/** Runs that may wait for a worker where a session's options say nothing. */
export const DEFAULT_MAX_QUEUE = 1024;

/** How a session is set up. All of it takes part in the keys of results, as it may change their last bits. */
export interface SessionOptions {
  /** Compute threads of one run; the number of cores if left out. */
  readonly threads?: number | undefined;
  /** Worker threads that hold the model, so that many runs can be under way; 1 if left out. */
  readonly workers?: number | undefined;
  /** Runs that may wait for a worker; past it `ERR_INFERKV_OVERLOADED`; 1,024 if left out. */
  readonly maxQueue?: number | undefined;
  /** Settings handed to the engine as they are; for ONNX Runtime its session options. */
  readonly engine?: Readonly<Record<string, unknown>> | undefined;
}

/** An input or an output of a model. */
export interface TensorSpec {
  /** Its name; where it stands for `many`, the part that all have in common with `*` at the end for the rest. */
  readonly name: string;
  /** `any` where the model does not say, as TorchScript models do not. */
  readonly type: TensorType | 'any';
  /** Sizes, outermost first; a symbolic dimension has its name, an unnamed one `''`; `any` where the model does not say. */
  readonly shape: readonly (number | string)[] | 'any';
  /** A run may leave it out. */
  readonly optional?: true;
  /** Stands for any number of tensors: of a `list`, `*` is 0, 1, 2 and so on; of a `map`, any text. */
  readonly many?: 'list' | 'map';
}

/** What a model takes and gives. */
export interface SessionMetadata {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
}

/** What a run may be told. */
export interface RunOptions {
  /** Names of the outputs wanted; all if left out. Only these are fetched. */
  readonly outputs?: readonly string[] | undefined;
  /** Tensors that outputs are written into where type and size fit; shared memory is written in place. */
  readonly into?: Tensors | undefined;
  /** Ends the wait; a run that has begun is let finish and its result dropped. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds from now after which the wait ends with `ERR_INFERKV_DEADLINE`. */
  readonly deadlineMs?: number | undefined;
}

/** What a run gives. */
export interface RunResult {
  /** The outputs; the receiver's own, but for those written into tensors that it handed in. */
  readonly outputs: Tensors;
  /** Milliseconds the model ran, without waiting. */
  readonly computeMs: number;
}

/**
 * An artifact loaded in an engine.
 *
 * Contract:
 * - `run` never blocks the calling thread, never keeps or changes its inputs, and may be called many times at once.
 * - Inputs are checked against the metadata first: `ERR_INFERKV_INPUT_MISSING`, `_UNKNOWN`, `_INVALID`, and
 *   `ERR_INFERKV_OUTPUT_UNKNOWN` for outputs.
 * - A failing run fails alone (`ERR_INFERKV_ENGINE_FAILED`); a lost worker fails its runs (`ERR_INFERKV_WORKER_LOST`)
 *   and comes back for the next.
 * - `close` lets accepted runs finish, refuses new ones with `ERR_INFERKV_CLOSED`, and frees everything.
 */
export interface Session extends AsyncDisposable {
  readonly metadata: SessionMetadata;
  /** Bytes it is charged with, as the engine counts them; may grow after the first run. */
  readonly sizeBytes: number;
  run(inputs: Tensors, options?: RunOptions): Promise<RunResult>;
  close(): Promise<void>;
}

/** Runs models of one format. */
export interface Engine {
  /** A short name, part of every key: `onnx`, `torchscript`. */
  readonly name: string;
  /** The version of what runs the models, part of every key. */
  readonly version: string;
  /** File name endings that it takes, with the dot. */
  readonly extensions: readonly string[];
  /** Its model files are programs: they are loaded only if they really lie in the configured repository. */
  readonly runsCode?: boolean;
  /** Loads a model off the calling thread; throws `ERR_INFERKV_ARTIFACT_INVALID` where it cannot. */
  load(artifact: Artifact, options?: SessionOptions, signal?: AbortSignal): Promise<Session>;
}
