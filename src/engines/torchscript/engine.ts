import { isMainThread } from 'node:worker_threads';

import { workerEntry } from '../../base/worker-entry.ts';
import type { Artifact, Engine, Session, SessionOptions } from '../engine.ts';
import { seatingOf } from '../seating.ts';
import { WorkerSession } from '../worker-session.ts';
import { builtAddon } from './addon.ts';
import { checkTorchOptions } from './options.ts';

// A worker thread with its JavaScript heap: measured as for ONNX Runtime.
const WORKER_BYTES = 8 * 1024 * 1024;

// Activations of a run, by the bytes that go in and come out (docs/design-decisions.md).
const ACTIVATION_FACTOR = 40;

/**
 * TorchScript models on libtorch, by an addon that is built on the spot (docs/torchscript.md). Each session runs in
 * worker threads of its own; the weights of one file are in memory once, however many sessions and threads use them.
 */
export class TorchScriptEngine implements Engine {
  readonly name = 'torchscript';
  readonly extensions: readonly string[] = ['.pt'];
  readonly runsCode = true;

  /** @throws InferkvError `ERR_INFERKV_PEER_MISSING` if the addon is not built */
  get version(): string {
    return builtAddon().torchVersion;
  }

  async load(artifact: Artifact, options: SessionOptions = {}, signal?: AbortSignal): Promise<Session> {
    const seating = seatingOf(options);
    const engine = checkTorchOptions(options.engine ?? {});
    // Fails here, with the line that sets it up, rather than in a thread.
    void this.version;
    quietWaiting();
    return WorkerSession.open(
      {
        entry: workerEntry(import.meta.url, './worker'),
        artifact,
        ...seating,
        engine: { ...engine },
        sizeBytes: (runBytes, copies) =>
          copies * artifact.sizeBytes + seating.workers * (WORKER_BYTES + ACTIVATION_FACTOR * runBytes),
      },
      signal,
    );
  }
}

/**
 * Threads of OpenMP that wait spin unless told otherwise, which on contended cores makes a run of 60 ms one of seconds.
 * The library reads this once, when it is loaded; only the main thread's `process.env` is the process's own.
 */
function quietWaiting(): void {
  if (isMainThread) process.env['OMP_WAIT_POLICY'] ??= 'passive';
}
