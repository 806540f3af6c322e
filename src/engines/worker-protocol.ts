/** The messages between a session and its worker threads. A worker has one request at a time. */
import type { ErrorCode } from '../base/errors.ts';
import type { Tensor } from '../base/tensor.ts';
import type { Artifact, SessionMetadata } from './engine.ts';
import type { ExitGuardMemory } from './exit-guard.ts';

/** What a worker thread is started with. */
export interface WorkerData {
  readonly exitGuard: ExitGuardMemory;
}

/** A tensor with its name. */
export type NamedTensor = readonly [name: string, tensor: Tensor];

/** Loads the model; answered by `loaded` or `failed`. */
export interface LoadRequest {
  readonly kind: 'load';
  readonly artifact: Artifact;
  readonly threads: number;
  readonly engine: Readonly<Record<string, unknown>>;
}

/** Runs the model; answered by `done` or `failed`. */
export interface RunRequest {
  readonly kind: 'run';
  readonly inputs: readonly NamedTensor[];
  /** Names of the outputs to fetch; `undefined` for all there will be. */
  readonly outputs: readonly string[] | undefined;
  /** Tensors over shared memory that outputs may be written into. */
  readonly into: readonly NamedTensor[];
}

/** Releases the model and ends the thread; answered by its exit. */
export interface CloseRequest {
  readonly kind: 'close';
}

export type WorkerRequest = LoadRequest | RunRequest | CloseRequest;

/** Something that works, and not as well as it could. */
export interface Notice {
  readonly code: string;
  readonly text: string;
}

export interface LoadedReply {
  readonly kind: 'loaded';
  readonly metadata: SessionMetadata;
  /** Whether all threads of the session use one copy of the weights. */
  readonly sharesWeights: boolean;
  /** What the operator should know of the libraries it runs on. */
  readonly notices: readonly Notice[];
}

export interface DoneReply {
  readonly kind: 'done';
  /** Outputs in buffers of their own, or over the shared memory of `into` where they fitted. */
  readonly outputs: readonly NamedTensor[];
  readonly computeMs: number;
}

export interface FailedReply {
  readonly kind: 'failed';
  readonly code: ErrorCode;
  readonly message: string;
}

export type WorkerReply = LoadedReply | DoneReply | FailedReply;
