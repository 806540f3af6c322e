import { workerEntry } from '../../base/worker-entry.ts';
import type { Artifact, Engine, Session, SessionOptions } from '../engine.ts';
import { seatingOf } from '../seating.ts';
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
    const seating = seatingOf(options);
    // Fails here, with the line that installs it, rather than in a thread.
    void this.version;
    return WorkerSession.open(
      {
        entry: workerEntry(import.meta.url, './worker'),
        artifact,
        ...seating,
        engine: options.engine ?? {},
        sizeBytes: (runBytes) => seating.workers * (artifact.sizeBytes + WORKER_BYTES + ACTIVATION_FACTOR * runBytes),
      },
      signal,
    );
  }
}
