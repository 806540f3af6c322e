import { availableParallelism } from 'node:os';

import { InferkvError } from '../../base/errors.ts';
import { workerEntry } from '../../base/worker-entry.ts';
import { computeScheduler } from '../compute-scheduler.ts';
import { DEFAULT_MAX_QUEUE, type Artifact, type Engine, type Session, type SessionOptions } from '../engine.ts';
import { WorkerSession } from '../worker-session.ts';
import { ortVersion } from './peer.ts';

// A worker thread with its JavaScript heap and ONNX Runtime's own structures: measured 8 MB.
const WORKER_BYTES = 8 * 1024 * 1024;

// Activations of a run, by the bytes that go in and come out: ResNet-50 takes 23 times its input (docs/design-decisions.md).
const ACTIVATION_FACTOR = 24;

/** ONNX Runtime (onnxruntime-node, an optional peer), each session in worker threads of its own. */
export class OnnxEngine implements Engine {
  readonly name = 'onnx';
  readonly extensions: readonly string[] = ['.onnx'];

  /** @throws InferkvError `ERR_INFERKV_PEER_MISSING` if onnxruntime-node is not installed */
  get version(): string {
    return ortVersion();
  }

  async load(artifact: Artifact, options: SessionOptions = {}, signal?: AbortSignal): Promise<Session> {
    const workers = options.workers ?? 1;
    const threads = computeScheduler.clamp(options.threads ?? availableParallelism());
    for (const [name, value] of Object.entries({ workers, threads, maxQueue: options.maxQueue ?? DEFAULT_MAX_QUEUE })) {
      if (Number.isSafeInteger(value) && value >= 1) continue;
      throw new InferkvError(
        'ERR_INFERKV_CONFIG_INVALID',
        `session.${name} must be a whole number from 1 up, not ${value}.`,
      );
    }
    // Fails here, with the line that installs it, rather than in a thread.
    void this.version;
    return WorkerSession.open(
      {
        entry: workerEntry(import.meta.url, './worker'),
        artifact,
        threads,
        workers,
        maxQueue: options.maxQueue ?? DEFAULT_MAX_QUEUE,
        engine: options.engine ?? {},
        sizeBytes: (runBytes) => workers * (artifact.sizeBytes + WORKER_BYTES + ACTIVATION_FACTOR * runBytes),
      },
      signal,
    );
  }
}
