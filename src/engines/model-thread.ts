/** What the threads of all engines have in common: they load one model from verified bytes, run it, and let it go. */
import { hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';

import { invariant } from '../base/assertions.ts';
import { InferkvError, isInferkvError, messageOf } from '../base/errors.ts';
import type { ArtifactFile, SessionMetadata } from './engine.ts';
import { guarded } from './exit-guard.ts';
import type {
  DoneReply,
  FailedReply,
  LoadedReply,
  LoadRequest,
  Notice,
  RunRequest,
  WorkerData,
  WorkerRequest,
} from './worker-protocol.ts';

/** A reply with the buffers that go over with it. */
export interface RunReply {
  readonly reply: DoneReply;
  readonly transfer: readonly ArrayBuffer[];
}

/** One model in the thread it lives in; its methods may block. */
export interface ModelRunner {
  readonly metadata: SessionMetadata;
  /** Whether further threads that load the same model use the same weights. */
  readonly sharesWeights: boolean;
  readonly notices: readonly Notice[];
  run(request: RunRequest): Promise<RunReply> | RunReply;
  release(): Promise<void> | void;
}

/** Runs native code so that a process that exits waits for its end. */
export type Guard = <T>(work: () => Promise<T> | T) => Promise<T>;

/**
 * Answers the session that started this thread, one request at a time, until it is told to close.
 *
 * @param open loads the model; native code in it runs under the guard
 */
export function serveModel(open: (request: LoadRequest, guard: Guard) => Promise<ModelRunner>): void {
  const port = parentPort;
  invariant(port !== null, 'the worker was started as a program');
  const { exitGuard } = workerData as WorkerData;
  const guard: Guard = (work) => guarded(exitGuard, work);
  let runner: ModelRunner | undefined;

  const answer = async (request: WorkerRequest): Promise<void> => {
    switch (request.kind) {
      case 'load': {
        const opened = await open(request, guard);
        runner = opened;
        const { metadata, sharesWeights, notices } = opened;
        port.postMessage({ kind: 'loaded', metadata, sharesWeights, notices } satisfies LoadedReply);
        return;
      }
      case 'run': {
        invariant(runner !== undefined, 'a run before a load');
        const loaded = runner;
        const { reply, transfer } = await guard(() => loaded.run(request));
        port.postMessage(reply, transfer);
        return;
      }
      case 'close':
        await runner?.release();
        port.close();
    }
  };
  port.on('message', (request: WorkerRequest) => {
    answer(request).catch((error: unknown) => port.postMessage(failureOf(error)));
  });
}

function failureOf(error: unknown): FailedReply {
  const code = isInferkvError(error) ? error.code : 'ERR_INFERKV_ENGINE_FAILED';
  return { kind: 'failed', code, message: messageOf(error) };
}

/**
 * The bytes of a model's file, if they are those it was named by.
 *
 * @throws InferkvError `ERR_INFERKV_ARTIFACT_MISSING`, `ERR_INFERKV_ARTIFACT_CHANGED`
 */
export async function verifiedBytes({ path, digest }: ArtifactFile): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw new InferkvError(
      'ERR_INFERKV_ARTIFACT_MISSING',
      `The model file ${path} cannot be read: ${messageOf(error)}`,
      { cause: error },
    );
  });
  if (hash('sha256', bytes) === digest) return bytes;
  throw new InferkvError(
    'ERR_INFERKV_ARTIFACT_CHANGED',
    `The model file ${path} changed while it was being loaded; it is loaded anew with the next request.`,
  );
}

/** Frees a file's bytes at once that were read into memory of their own; the collector would let them lie for long. */
export function free(bytes: Uint8Array<ArrayBuffer>): void {
  if (bytes.byteLength === bytes.buffer.byteLength) bytes.buffer.transfer(0);
}

/** The buffers behind outputs that the thread made itself, which need not be copied to get to another thread. */
export function transferable(outputs: DoneReply['outputs']): readonly ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>();
  for (const [, { data }] of outputs) {
    if (ArrayBuffer.isView(data) && data.buffer instanceof ArrayBuffer) buffers.add(data.buffer);
  }
  return [...buffers];
}
