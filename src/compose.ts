/** Configuration in, running objects out: the one place that names engines, policies and partitions together. */
import { systemClock, type Clock } from './base/clock.ts';
import { InferkvError } from './base/errors.ts';
import type { PartitionStats } from './cache/partition.ts';
import type { SharedPartitionHandle } from './cache/shared-messages.ts';
import {
  Partitions,
  type Breakdown,
  type CacheExplanation,
  type Invalidation,
  type PartitionOptions,
} from './compose-partitions.ts';
import type { TiersReport } from './compose-tiers.ts';
import type { PartitionName } from './config/partitions.ts';
import { checkOptions, type CheckedOptions, type WhatIfSettings } from './config/schema.ts';
import type { PartitionTiers, TierSettings } from './config/tiers.ts';
import type { Engine, Session } from './engines/engine.ts';
import { OnnxEngine } from './engines/onnx/engine.ts';
import { onnxCompanions } from './engines/onnx/model-reader.ts';
import { TorchScriptEngine } from './engines/torchscript/engine.ts';
import {
  CachedModel,
  type CachedModelParts,
  type ModelStatus,
  type UnreadableModel,
} from './inference/cached-model.ts';
import { modelKey } from './inference/request-key.ts';
import { modelTag, ResultCache, type CachedIdentity } from './inference/result-cache.ts';
import { wrapOrtSession, type OrtSessionLike, type WrappedOrtSession } from './inference/wrapped-ort.ts';
import { WrappedEngine, WrappedSession } from './inference/wrapped-session.ts';
import { createArtifactReader, type ArtifactReader } from './models/artifacts.ts';
import { Catalog } from './models/catalog.ts';
import type { ModelSettings } from './models/model-settings.ts';
import { openRepository, type ModelListing, type Repository } from './models/repository.ts';
import { Residency } from './models/residency.ts';
import type { UseListener } from './telemetry/use-listener.ts';
import type { ListenedPartition, WhatIfReport } from './compose-what-if.ts';

/** What `createInferenceCache` takes. */
export interface InferenceCacheOptions {
  /** The folder with the models, `<name>/<version>/model.onnx` or `<name>.onnx`, or one model file; `./models` if left out. */
  readonly repository?: string;
  /** Settings by model; each one given here takes the place of the repository's own. */
  readonly models?: Readonly<Record<string, ModelSettings>>;
  /** All partitions together: bytes, a size, or a share of the memory the process may use; all of it if left out. */
  readonly budgetBytes?: number | string;
  readonly partitions?: {
    /** Loaded models; 40% and `gdsf` if left out. `keepAliveMs` unloads what was not used that long. */
    readonly models?: PartitionOptions & { readonly keepAliveMs?: number };
    /**
     * Results; 10% and `lru` if left out. With `storage: 'shared'` they lie in memory that worker threads look them up in
     * (`handle`); in the main thread's own, `heap`, if left out.
     */
    readonly results?: PartitionOptions & PartitionTiers & { readonly storage?: 'heap' | 'shared' };
    /** Parameters of models; 10% and `gdsf` if left out. */
    readonly parameters?: PartitionOptions;
    /** Intermediate feature maps; 5% and `gdsf` if left out. */
    readonly activations?: PartitionOptions;
    /** Keys and values of prompts; 10% and `lru` if left out. */
    readonly attention?: PartitionOptions;
  };
  /** What lies below memory, by name, the nearest first: stores on disk and on the network (docs/tiers.md). */
  readonly tiers?: Readonly<Record<string, TierSettings>>;
  /** Milliseconds for which what may be out of date is served while invalidations of other nodes cannot be heard; 5,000 if left out. */
  readonly maxStaleMs?: number;
  /** `auto` has one node compute for all where a tier can grant the right; `off` has each compute for itself. `auto` if left out. */
  readonly singleFlight?: 'auto' | 'off';
  /** Milliseconds for which a model's file is taken as unchanged without looking; 1,000 if left out. */
  readonly recheckMs?: number;
  /** Seed of every random choice; 1 if left out. */
  readonly seed?: number;
  /** Overwrites freed result memory, so that reading after release shows; also by `INFERKV_DEBUG=1`. */
  readonly debug?: boolean;
  /** Further engines, asked before the built-in ones. */
  readonly engines?: readonly Engine[];
  /** Other budgets and policies to imagine while traffic runs, for `whatIf()`; nothing if left out. */
  readonly whatIf?: WhatIfSettings;
  /** Who is told of every use of a partition, besides the what-if; nobody if left out. */
  readonly listen?: (partition: ListenedPartition) => UseListener | undefined;
  /** Where time comes from; for tests. */
  readonly clock?: Clock;
}

/** By what a wrapped session's results are told from those of other models: the model file's path, its digest, or its bytes. */
export type WrappedArtifact = { readonly path: string } | { readonly digest: string } | { readonly bytes: Uint8Array };

/** How a session is wrapped. */
export interface WrapOptions {
  readonly artifact: WrappedArtifact;
  /** A name for people. */
  readonly name?: string;
  /** The options the session was created with, as they may change the last bits of its results. */
  readonly sessionOptions?: Readonly<Record<string, unknown>>;
  /** The version of what runs it; part of the key. */
  readonly engineVersion?: string;
}

/** Loaded models and their results, kept. */
export interface InferenceCache extends AsyncDisposable {
  /** A handle to a model of the repository; nothing is loaded before it is used. */
  model(name: string, options?: { readonly version?: string }): CachedModel;
  /** Names and versions of the models in the repository; reads no model. */
  list(): Promise<readonly ModelListing[]>;
  /** What the repository holds, and where each model stands; one that cannot be read is listed with what is wrong. */
  models(): Promise<readonly (ModelStatus | UnreadableModel)[]>;
  /** Keeps the results of every model that an engine loads; gives an engine. */
  wrap(engine: Engine): Engine;
  /** Keeps the results of a session that somebody else holds; gives a session of the same kind. */
  wrap(session: Session, options: WrapOptions): Promise<Session>;
  wrap<S extends OrtSessionLike>(session: S, options: WrapOptions): Promise<WrappedOrtSession<S>>;
  /**
   * What one more worker thread needs to look results up by itself (`attachResults`): pass it on as `workerData` or in a
   * message, with its `port` in the `transferList`.
   *
   * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` unless `partitions.results.storage` is `shared`
   */
  handle(partition: 'results'): SharedPartitionHandle;
  /** Counters by partition. */
  stats(): Readonly<Record<PartitionName, PartitionStats>>;
  /** What the tiers below memory have done, and how they stand. */
  tiers(): TiersReport;
  /** Waits until everything that was kept has gone down to the tiers that are to have it. */
  flush(): Promise<void>;
  /** What tenants and tags have in a partition, the largest first, 100 of each if `limit` is left out; walks over its entries. */
  breakdown(partition: PartitionName, limit?: number): Breakdown;
  /** What is known of a key: where its entry is, or why it is not here. `CacheReport.key` has the key of a result. */
  explain(key: string): CacheExplanation;
  /**
   * What other budgets and policies would give, by the uses since the cache was made (docs/what-if.md).
   *
   * @throws InferkvError `ERR_INFERKV_WHAT_IF_OFF` without the option `whatIf`, `ERR_INFERKV_WORKER_LOST`
   */
  whatIf(): Promise<readonly WhatIfReport[]>;
  /** Takes results and other derived entries out; gives their number. Loaded models stay: `CachedModel.unload` is for them. */
  invalidate(what: Invalidation): number;
  /** Lets runs under way end, then frees everything. */
  close(): Promise<void>;
}

const DEFAULT_RECHECK_MS = 1000;

/**
 * Makes an inference cache. Nothing is read or loaded before a model is used.
 *
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`, `ERR_INFERKV_POLICY_UNKNOWN`
 */
export function createInferenceCache(options: InferenceCacheOptions = {}): InferenceCache {
  const { clock = systemClock, engines = [], listen, ...rest } = options;
  return new ComposedCache(checkOptions(rest), [...engines, new OnnxEngine(), new TorchScriptEngine()], clock, listen);
}

class ComposedCache implements InferenceCache {
  readonly #partitions: Partitions;
  readonly #resultCache: ResultCache;
  readonly #repository: Repository;
  readonly #artifacts: ArtifactReader;
  readonly #residency: Residency;
  readonly #parts: CachedModelParts;
  #closed = false;

  constructor(
    options: CheckedOptions,
    engines: readonly Engine[],
    clock: Clock,
    listen: InferenceCacheOptions['listen'],
  ) {
    this.#partitions = new Partitions(options, clock, listen);
    const { models, results } = this.#partitions;
    this.#resultCache = new ResultCache(results, clock);
    this.#artifacts = createArtifactReader({
      companions: async (path) => (path.endsWith('.onnx') ? onnxCompanions(path) : []),
    });
    this.#repository = openRepository({
      root: options.repository ?? 'models',
      formats: engines,
    });
    const catalog = new Catalog({
      repository: this.#repository,
      engines,
      artifacts: this.#artifacts,
      settings: options.models ?? {},
      clock,
      recheckMs: options.recheckMs ?? DEFAULT_RECHECK_MS,
    });
    const keepAliveMs = options.partitions?.models?.keepAliveMs;
    this.#residency = new Residency({
      catalog,
      partition: models,
      clock,
      ...(keepAliveMs !== undefined && { keepAliveMs }),
    });
    // Nothing of an old content is served for the new, as keys cover the digest; it is let go to make room.
    catalog.onChange(async (from) => void results.invalidateTag(modelTag(from.artifact.digest)));
    this.#parts = { catalog, residency: this.#residency, results: this.#resultCache, clock };
  }

  model(name: string, { version }: { readonly version?: string } = {}): CachedModel {
    if (this.#closed) throw new InferkvError('ERR_INFERKV_CLOSED', 'The cache is closed; make a new one.');
    return new CachedModel(name, version, this.#parts);
  }

  async list(): Promise<readonly ModelListing[]> {
    return this.#repository.list();
  }

  async models(): Promise<readonly (ModelStatus | UnreadableModel)[]> {
    const listed = await this.#repository.list();
    const versions = listed.flatMap(({ name, versions: each }) => each.map((version) => ({ name, version })));
    return Promise.all(
      versions.map(async ({ name, version }) => {
        try {
          return await this.model(name, { version }).status();
        } catch (fault) {
          return { name, version, resident: false, fault } as const;
        }
      }),
    );
  }

  wrap(engine: Engine): Engine;
  wrap(session: Session, options: WrapOptions): Promise<Session>;
  wrap<S extends OrtSessionLike>(session: S, options: WrapOptions): Promise<WrappedOrtSession<S>>;
  wrap(wrapped: Engine | Session | OrtSessionLike, options?: WrapOptions): Engine | Promise<Session | OrtSessionLike> {
    if (typeof wrapped !== 'object' || wrapped === null) {
      throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', 'wrap() takes an engine or a session.');
    }
    if ('load' in wrapped) return new WrappedEngine(wrapped, this.#resultCache);
    return this.#wrapSession(wrapped, options);
  }

  handle(_partition: 'results'): SharedPartitionHandle {
    if (this.#closed) throw new InferkvError('ERR_INFERKV_CLOSED', 'The cache is closed; make a new one.');
    return this.#partitions.handle();
  }

  stats(): Readonly<Record<PartitionName, PartitionStats>> {
    return this.#partitions.stats();
  }

  tiers(): TiersReport {
    return this.#partitions.tiers.report();
  }

  flush(): Promise<void> {
    return this.#partitions.tiers.flush();
  }

  breakdown(partition: PartitionName, limit?: number): Breakdown {
    return this.#partitions.breakdown(partition, limit);
  }

  explain(key: string): CacheExplanation {
    return this.#partitions.explain(key);
  }

  whatIf(): Promise<readonly WhatIfReport[]> {
    return this.#partitions.whatIf();
  }

  invalidate(what: Invalidation): number {
    return this.#partitions.invalidate(what);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#residency.close();
    await this.#partitions.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #wrapSession(
    session: Session | OrtSessionLike,
    options: WrapOptions | undefined,
  ): Promise<Session | OrtSessionLike> {
    if (options?.artifact === undefined) {
      throw new InferkvError(
        'ERR_INFERKV_CONFIG_INVALID',
        'wrap(session) needs to know the model: { artifact: { path }, { digest } or { bytes } }.',
      );
    }
    const digest = await this.#digestOf(options.artifact);
    const identity: CachedIdentity = {
      model: options.name ?? ('path' in options.artifact ? options.artifact.path : digest.slice(0, 12)),
      modelKey: modelKey({
        artifactDigest: digest,
        engine: 'metadata' in session ? 'wrapped' : 'wrapped-onnxruntime',
        engineVersion: options.engineVersion ?? '',
        sessionOptions: options.sessionOptions ?? {},
      }),
      tags: [modelTag(digest)],
    };
    if ('metadata' in session) return new WrappedSession(session, identity, this.#resultCache);
    return wrapOrtSession(session, identity, this.#resultCache);
  }

  async #digestOf(artifact: WrappedArtifact): Promise<string> {
    if ('digest' in artifact) return artifact.digest;
    if ('path' in artifact) return (await this.#artifacts.read(artifact.path)).artifact.digest;
    return this.#artifacts.digestOfBytes(artifact.bytes);
  }
}
