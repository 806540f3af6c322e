import type { Tensors } from '../base/tensor.ts';
import type {
  Artifact,
  Engine,
  RunOptions,
  RunResult,
  Session,
  SessionMetadata,
  SessionOptions,
} from '../engines/engine.ts';
import { modelKey } from './request-key.ts';
import { modelTag, type CachedIdentity, type Computation, type ResultCache } from './result-cache.ts';

/** A session whose results are kept; itself a session, with the same contract. */
export class WrappedSession implements Session {
  readonly #session: Session;
  readonly #identity: CachedIdentity;
  readonly #results: ResultCache;

  constructor(session: Session, identity: CachedIdentity, results: ResultCache) {
    this.#session = session;
    this.#identity = identity;
    this.#results = results;
  }

  get metadata(): SessionMetadata {
    return this.#session.metadata;
  }

  get sizeBytes(): number {
    return this.#session.sizeBytes;
  }

  async run(inputs: Tensors, options: RunOptions = {}): Promise<RunResult> {
    const { outputs, into, signal, deadlineMs } = options;
    // Who brings memory to write into wants it written by the engine, not copied from a cache.
    if (into !== undefined) return this.#session.run(inputs, options);
    const computation: Computation = {
      ...this.#identity,
      keeps: true,
      ttlMs: undefined,
      maxEntryBytes: undefined,
      run: (own, stop) => this.#session.run(own, { outputs, signal: stop }),
    };
    const answer = await this.#results.answer(computation, inputs, { outputs, signal, deadlineMs });
    return { outputs: answer.outputs, computeMs: answer.cache.hit ? 0 : answer.cache.costMs };
  }

  close(): Promise<void> {
    return this.#session.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** An engine whose sessions keep their results; itself an engine, with the same contract. */
export class WrappedEngine implements Engine {
  readonly #engine: Engine;
  readonly #results: ResultCache;

  constructor(engine: Engine, results: ResultCache) {
    this.#engine = engine;
    this.#results = results;
  }

  get name(): string {
    return this.#engine.name;
  }

  get version(): string {
    return this.#engine.version;
  }

  get extensions(): readonly string[] {
    return this.#engine.extensions;
  }

  get runsCode(): boolean {
    return this.#engine.runsCode === true;
  }

  async load(artifact: Artifact, options: SessionOptions = {}, signal?: AbortSignal): Promise<Session> {
    const session = await this.#engine.load(artifact, options, signal);
    const identity: CachedIdentity = {
      model: artifact.path,
      modelKey: modelKey({
        artifactDigest: artifact.digest,
        engine: this.#engine.name,
        engineVersion: this.#engine.version,
        sessionOptions: { threads: options.threads, engine: options.engine },
      }),
      tags: [modelTag(artifact.digest)],
    };
    return new WrappedSession(session, identity, this.#results);
  }
}
