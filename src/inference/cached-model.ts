import type { Clock } from '../base/clock.ts';
import { isInferkvError } from '../base/errors.ts';
import { cancellation, orAborted } from '../base/cancellation.ts';
import { copyTensors, tensorFault, type Tensors } from '../base/tensor.ts';
import type { Lease } from '../cache/partition.ts';
import type { RunResult, SessionMetadata } from '../engines/engine.ts';
import type { Catalog, ModelVersion } from '../models/catalog.ts';
import type { ModelSettings } from '../models/model-settings.ts';
import type { Residency, Resident } from '../models/residency.ts';
import { forecastOf } from './output-forecast.ts';
import { modelKey, type ModelKey } from './request-key.ts';
import {
  modelTag,
  type Answer,
  type CachedIdentity,
  type Computation,
  type LeasedAnswer,
  type RequestOptions,
  type ResultCache,
} from './result-cache.ts';

/** What a cached model is made of. */
export interface CachedModelParts {
  readonly catalog: Catalog;
  readonly residency: Residency;
  readonly results: ResultCache;
  readonly clock: Clock;
}

/** Where a model stands now. */
export interface ModelStatus {
  readonly name: string;
  readonly version: string;
  /** SHA-256 of its content. */
  readonly digest: string;
  readonly engine: string;
  readonly path: string;
  readonly fileBytes: number;
  readonly resident: boolean;
  readonly pinned: boolean;
  /** Bytes it is charged with in the partition `models`; 0 while it is not resident. */
  readonly residentBytes: number;
  readonly settings: ModelSettings;
  /** What was wrong when its file was last looked at. */
  readonly fault: unknown;
}

/** A model of the repository that cannot be read. */
export interface UnreadableModel {
  readonly name: string;
  readonly version: string;
  readonly resident: false;
  /** Why not. */
  readonly fault: unknown;
}

// A file that changes under a load is read anew; one that never stops changing is given up.
const MAX_TRIES = 3;

/**
 * A model of the repository behind its caches: loaded on first use, kept in memory, its results kept. A handle: making one
 * does nothing, and it stays good when the model is evicted, reloaded or replaced by a new content.
 */
export class CachedModel {
  readonly name: string;
  /** The version asked for; the highest one if `undefined`. */
  readonly version: string | undefined;
  readonly #parts: CachedModelParts;
  #identity: { readonly of: ModelVersion; readonly identity: CachedIdentity } | undefined;

  constructor(name: string, version: string | undefined, parts: CachedModelParts) {
    this.name = name;
    this.version = version;
    this.#parts = parts;
  }

  /**
   * Answers from the cache, or runs the model.
   *
   * @param inputs tensors by name; read during the call and not afterwards, unless they lie in shared memory and the cache is bypassed
   * @returns outputs that are the receiver's own, and how they came about
   * @throws InferkvError `ERR_INFERKV_MODEL_*`, `ERR_INFERKV_INPUT_*`, `ERR_INFERKV_OUTPUT_UNKNOWN`, `ERR_INFERKV_ARTIFACT_*`,
   * `ERR_INFERKV_BUDGET_EXCEEDED`, `ERR_INFERKV_OVERLOADED`, `ERR_INFERKV_DEADLINE`, `ERR_INFERKV_ABORTED`, `ERR_INFERKV_WORKER_LOST`
   */
  run(inputs: Tensors, options: RequestOptions = {}): Promise<Answer> {
    return this.#request(inputs, options, (...request) => this.#parts.results.answer(...request));
  }

  /**
   * As `run`, without the copy: the outputs are the cache's own memory. They must not be written to, and not be touched
   * after `release()`, when their bytes may hold anything.
   */
  lease(inputs: Tensors, options: RequestOptions = {}): Promise<LeasedAnswer> {
    return this.#request(inputs, options, (...request) => this.#parts.results.lease(...request));
  }

  /** Loads the model, so that the first request need not. */
  async load(options: { readonly signal?: AbortSignal } = {}): Promise<ModelStatus> {
    const version = await this.#parts.catalog.find(this.name, this.version);
    (await this.#parts.residency.lease(version, options.signal)).release();
    return this.status();
  }

  /** Frees the model's memory when the runs under way have ended; the next request loads it again. */
  async unload(): Promise<void> {
    await this.#parts.residency.unload(await this.#parts.catalog.find(this.name, this.version));
  }

  /** Loads the model and keeps it whatever else needs room. */
  async pin(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.#parts.residency.pin(await this.#parts.catalog.find(this.name, this.version), options.signal);
  }

  /** Makes a pinned model evictable again. */
  async unpin(): Promise<void> {
    this.#parts.residency.unpin(await this.#parts.catalog.find(this.name, this.version));
  }

  /** Looks now whether the model's file changed, and loads the new content if so. */
  async refresh(): Promise<ModelStatus> {
    await this.#parts.catalog.refresh(this.name, this.version);
    return this.status();
  }

  /** What the model takes and gives; loads it if need be. */
  async metadata(): Promise<SessionMetadata> {
    using lease = await this.#parts.residency.lease(await this.#parts.catalog.find(this.name, this.version));
    return lease.value.session.metadata;
  }

  /** What its present content contributes to the keys of its results, for threads that look those up by themselves. */
  async modelKey(): Promise<ModelKey> {
    return this.#identityOf(await this.#parts.catalog.find(this.name, this.version)).modelKey;
  }

  /** Its version and whether that is loaded, as far as known, and what was wrong when its file was last looked at; never waits. */
  peek(): { readonly version: string | undefined; readonly resident: boolean; readonly fault: unknown } {
    const { catalog, residency } = this.#parts;
    const version = catalog.known(this.name, this.version);
    return {
      version: version?.version,
      resident: version !== undefined && residency.isResident(version),
      fault: catalog.faultOf(this.name, this.version),
    };
  }

  /** Where the model stands now; loads nothing. */
  async status(): Promise<ModelStatus> {
    const { catalog, residency } = this.#parts;
    const version = await catalog.find(this.name, this.version);
    const residentBytes = residency.sizeBytes(version);
    return {
      name: version.name,
      version: version.version,
      digest: version.artifact.digest,
      engine: version.engine.name,
      path: version.artifact.path,
      fileBytes: version.artifact.sizeBytes,
      resident: residentBytes !== undefined,
      pinned: residency.isPinned(version),
      residentBytes: residentBytes ?? 0,
      settings: version.settings,
      fault: catalog.faultOf(this.name, this.version),
    };
  }

  #request<T>(
    inputs: Tensors,
    options: RequestOptions,
    answer: (computation: Computation, inputs: Tensors, options: RequestOptions) => Promise<T>,
  ): Promise<T> {
    const version = this.#parts.catalog.known(this.name, this.version);
    if (version !== undefined && this.#parts.residency.isResident(version)) {
      // Nothing waits before the key is computed and the inputs are staged, so they need no copy of their own here.
      return answer(this.#computation(version, options), inputs, options).catch((error: unknown) => {
        if (!isStale(error)) throw error;
        return this.#slowRequest(inputs, options, answer);
      });
    }
    return this.#slowRequest(inputs, options, answer);
  }

  /** The way of a request whose model has yet to be found or loaded. */
  async #slowRequest<T>(
    inputs: Tensors,
    options: RequestOptions,
    answer: (computation: Computation, inputs: Tensors, options: RequestOptions) => Promise<T>,
  ): Promise<T> {
    // The caller may change his arrays while we wait.
    const own = ownCopy(inputs);
    const { catalog, clock } = this.#parts;
    const { signal, dispose } = cancellation(options.signal, options.deadlineMs, clock);
    const within: RequestOptions = { ...options, signal, deadlineMs: undefined };
    try {
      for (let tries = 1; ; tries++) {
        const version = await orAborted(catalog.find(this.name, this.version), signal);
        try {
          return await answer(this.#computation(version, within), own, within);
        } catch (error) {
          if (!isStale(error) || tries === MAX_TRIES) throw error;
          await orAborted(catalog.refresh(this.name, this.version), signal);
        }
      }
    } finally {
      dispose();
    }
  }

  #computation(version: ModelVersion, options: RequestOptions): Computation {
    const { enabled = true, ttlMs, maxEntryBytes } = version.settings.results ?? {};
    return {
      ...this.#identityOf(version),
      keeps: enabled,
      ttlMs,
      maxEntryBytes,
      run: (inputs, signal, into) => this.#run(version, inputs, options, signal, into),
      // Requests that write into memory of their own run alone, which costs more than the copy where runs are batched.
      forecast: version.settings.batching === undefined ? forecastOf(version) : undefined,
    };
  }

  #identityOf(version: ModelVersion): CachedIdentity {
    if (this.#identity?.of === version) return this.#identity.identity;
    const { artifact, engine, settings } = version;
    const { session, batching } = settings;
    const identity: CachedIdentity = {
      model: this.name,
      version: version.version,
      modelKey: modelKey({
        artifactDigest: artifact.digest,
        engine: engine.name,
        engineVersion: engine.version,
        sessionOptions: { threads: session?.threads, engine: session?.engine, batching: batching?.maxSize },
      }),
      tags: [modelTag(artifact.digest)],
    };
    this.#identity = { of: version, identity };
    return identity;
  }

  /** Runs the model; when it is resident the inputs are handed over before anything waits. */
  #run(
    version: ModelVersion,
    inputs: Tensors,
    options: RequestOptions,
    signal: AbortSignal | undefined,
    into: Tensors | undefined,
  ): Promise<RunResult> {
    const lease = this.#parts.residency.tryLease(version);
    if (lease !== undefined) return runOn(lease, inputs, options, signal, into);
    return this.#parts.residency.lease(version, signal).then((loaded) => runOn(loaded, inputs, options, signal, into));
  }
}

async function runOn(
  lease: Lease<Resident>,
  inputs: Tensors,
  { outputs }: RequestOptions,
  signal: AbortSignal | undefined,
  into: Tensors | undefined,
): Promise<RunResult> {
  try {
    return await lease.value.session.run(inputs, { outputs, signal, into });
  } finally {
    lease.release();
  }
}

/** Whether the model's file changed between its being looked at and its being loaded. */
function isStale(error: unknown): boolean {
  return isInferkvError(error, 'ERR_INFERKV_ARTIFACT_CHANGED') || isInferkvError(error, 'ERR_INFERKV_ARTIFACT_MISSING');
}

function ownCopy(inputs: Tensors): Tensors {
  const copyable =
    typeof inputs === 'object' &&
    inputs !== null &&
    Object.values(inputs).every((each) => tensorFault(each) === undefined);
  // What is no tensor is turned away later, by the check that says what is wrong with it.
  return copyable ? copyTensors(inputs) : inputs;
}
