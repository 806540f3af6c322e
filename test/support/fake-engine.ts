import { FakeClock } from '../../src/base/clock.ts';
import { InferkvError } from '../../src/base/errors.ts';
import type { Tensors } from '../../src/base/tensor.ts';
import type { Artifact, Engine, RunResult, Session, SessionMetadata } from '../../src/engines/engine.ts';

/** A session that answers with the digest of what it was loaded from, when the test says so. */
export class FakeSession implements Session {
  readonly metadata: SessionMetadata = { inputs: [], outputs: [{ name: 'digest', type: 'string', shape: [1] }] };
  readonly artifact: Artifact;
  sizeBytes: number;
  /** Ends every run of this session; already over unless a test puts another in its place. */
  gate: Promise<void> = Promise.resolve();
  closed = false;
  closing: Promise<void> = Promise.resolve();
  #running = new Set<Promise<void>>();

  constructor(artifact: Artifact, sizeBytes: number) {
    this.artifact = artifact;
    this.sizeBytes = sizeBytes;
  }

  async run(_inputs: Tensors): Promise<RunResult> {
    if (this.closed) throw new InferkvError('ERR_INFERKV_CLOSED', 'The session is closed.');
    const { gate } = this;
    this.#running.add(gate);
    await gate;
    this.#running.delete(gate);
    return { outputs: { digest: { type: 'string', shape: [1], data: [this.artifact.digest] } }, computeMs: 10 };
  }

  async close(): Promise<void> {
    this.closed = true;
    await Promise.all([this.closing, ...this.#running]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** An engine in this very thread whose loads and runs a test holds in its hands. */
export class FakeEngine implements Engine {
  readonly name = 'fake';
  readonly version = '1.0';
  readonly extensions: readonly string[] = ['.fake'];
  readonly sessions: FakeSession[] = [];
  /** Paths in the order in which they were asked to be loaded. */
  readonly loads: string[] = [];
  /** Holds back loads whose path ends so. */
  readonly gates: Map<string, Promise<void>> = new Map();
  /** Milliseconds on the clock that a load takes. */
  loadMs = 100;
  readonly clock: FakeClock;

  constructor(clock: FakeClock = new FakeClock()) {
    this.clock = clock;
  }

  /** As many bytes as the file, so that a test knows what fits; a file that begins with `bad` is refused. */
  async load(artifact: Artifact): Promise<FakeSession> {
    this.loads.push(artifact.path);
    for (const [ending, gate] of this.gates) if (artifact.path.endsWith(ending)) await gate;
    this.clock.advance(this.loadMs);
    if (artifact.sizeBytes === BAD.length) {
      throw new InferkvError('ERR_INFERKV_ARTIFACT_INVALID', `${artifact.path} is no model.`);
    }
    const session = new FakeSession(artifact, artifact.sizeBytes);
    this.sessions.push(session);
    return session;
  }
}

/** The content of a file that the engine refuses. */
export const BAD = 'bad';
