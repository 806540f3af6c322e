/** Configuration in, running objects out: the one place that names engines, policies and partitions together. */
import { systemClock, type Clock } from './base/clock.ts';
import { InferkvError } from './base/errors.ts';
import { createRandom } from './base/random.ts';
import { bytesOf, isStrings, type Tensors } from './base/tensor.ts';
import { HeapPartition } from './cache/heap-partition.ts';
import type { PartitionStats } from './cache/partition.ts';
import { checkOptions, type CheckedOptions } from './config/schema.ts';
import { bytesOfSetting } from './config/sizes.ts';
import type { Engine, Session } from './engines/engine.ts';
import { OnnxEngine } from './engines/onnx/engine.ts';
import { onnxCompanions } from './engines/onnx/model-reader.ts';
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
import { closeResident, Residency, type Resident } from './models/residency.ts';
import { createPolicy, type PolicyName } from './policies/registry.ts';
import type { UseListener } from './telemetry/use-listener.ts';

/** Settings of one partition. */
export interface PartitionOptions {
  /** Bytes, a size (`'2GB'`), or a share of the memory the process may use (`'40%'`). */
  readonly budgetBytes?: number | string;
  /** What is evicted first: `lru`, `lfu` or `gdsf` (by what it cost, per byte). */
  readonly policy?: PolicyName;
}

/** What `createInferenceCache` takes. */
export interface InferenceCacheOptions {
  /** The folder with the models, `<name>/<version>/model.onnx` or `<name>.onnx`, or one model file; `./models` if left out. */
  readonly repository?: string;
  /** Settings by model; each one given here takes the place of the repository's own. */
  readonly models?: Readonly<Record<string, ModelSettings>>;
  readonly partitions?: {
    /** Loaded models; 40% and `gdsf` if left out. `keepAliveMs` unloads what was not used that long. */
    readonly models?: PartitionOptions & { readonly keepAliveMs?: number };
    /** Results; 10% and `lru` if left out. */
    readonly results?: PartitionOptions & { readonly ttlMs?: number; readonly maxEntryBytes?: number | string };
  };
  /** Milliseconds for which a model's file is taken as unchanged without looking; 1,000 if left out. */
  readonly recheckMs?: number;
  /** Seed of every random choice; 1 if left out. */
  readonly seed?: number;
  /** Overwrites freed result memory, so that reading after release shows; also by `INFERKV_DEBUG=1`. */
  readonly debug?: boolean;
  /** Further engines, asked before the built-in ones. */
  readonly engines?: readonly Engine[];
  /** Who is told of every use of a partition; nobody if left out. */
  readonly listen?: (partition: 'models' | 'results') => UseListener | undefined;
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
  /** Counters by partition. */
  stats(): Readonly<Record<'models' | 'results', PartitionStats>>;
  /** Lets runs under way end, then frees everything. */
  close(): Promise<void>;
}

const DEFAULT_RECHECK_MS = 1000;
const POISON = 0xdb;

/**
 * Makes an inference cache. Nothing is read or loaded before a model is used.
 *
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`, `ERR_INFERKV_POLICY_UNKNOWN`
 */
export function createInferenceCache(options: InferenceCacheOptions = {}): InferenceCache {
  const { clock = systemClock, engines = [], listen, ...rest } = options;
  return new ComposedCache(checkOptions(rest), [...engines, new OnnxEngine()], clock, listen);
}

class ComposedCache implements InferenceCache {
  readonly #models: HeapPartition<Resident>;
  readonly #results: HeapPartition<Tensors>;
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
    const debug = options.debug ?? process.env['INFERKV_DEBUG'] === '1';
    const { models = {}, results = {} } = options.partitions ?? {};
    const seed = options.seed ?? 1;
    this.#models = new HeapPartition<Resident>({
      ...partitionBasics('models', models, { budgetBytes: '40%', policy: 'gdsf' }, clock, seed),
      free: closeResident,
      listener: listen?.('models'),
    });
    this.#results = new HeapPartition<Tensors>({
      ...partitionBasics('results', results, { budgetBytes: '10%', policy: 'lru' }, clock, seed),
      ...(results.ttlMs !== undefined && { ttlMs: results.ttlMs }),
      ...(results.maxEntryBytes !== undefined && {
        maxEntryBytes: bytesOfSetting('partitions.results.maxEntryBytes', results.maxEntryBytes),
      }),
      ...(debug && { free: poison }),
      listener: listen?.('results'),
    });
    this.#resultCache = new ResultCache(this.#results, clock);
    this.#artifacts = createArtifactReader({
      companions: async (path) => (path.endsWith('.onnx') ? onnxCompanions(path) : []),
    });
    this.#repository = openRepository({
      root: options.repository ?? 'models',
      extensions: engines.flatMap((engine) => engine.extensions),
    });
    const catalog = new Catalog({
      repository: this.#repository,
      engines,
      artifacts: this.#artifacts,
      settings: options.models ?? {},
      clock,
      recheckMs: options.recheckMs ?? DEFAULT_RECHECK_MS,
    });
    this.#residency = new Residency({
      catalog,
      partition: this.#models,
      clock,
      ...(models.keepAliveMs !== undefined && { keepAliveMs: models.keepAliveMs }),
    });
    // Nothing of an old content is served for the new, as keys cover the digest; it is let go to make room.
    catalog.onChange(async (from) => void this.#results.invalidateTag(modelTag(from.artifact.digest)));
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

  stats(): Readonly<Record<'models' | 'results', PartitionStats>> {
    return { models: this.#models.stats(), results: this.#results.stats() };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#residency.close();
    await this.#results.close();
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

interface PartitionBasics {
  readonly name: string;
  readonly budgetBytes: number;
  readonly policy: ConstructorParameters<typeof HeapPartition>[0]['policy'];
  readonly clock: Clock;
  readonly random: ReturnType<typeof createRandom>;
}

function partitionBasics(
  name: 'models' | 'results',
  given: { readonly budgetBytes?: number | string | undefined; readonly policy?: string | undefined },
  defaults: { readonly budgetBytes: string; readonly policy: PolicyName },
  clock: Clock,
  seed: number,
): PartitionBasics {
  return {
    name,
    budgetBytes: bytesOfSetting(`partitions.${name}.budgetBytes`, given.budgetBytes ?? defaults.budgetBytes),
    policy: (context) => createPolicy(given.policy ?? defaults.policy, context),
    clock,
    random: createRandom(seed),
  };
}

/** Overwrites what was freed, so that whoever reads after release gets what cannot be taken for a result. */
function poison(tensors: Tensors): void {
  for (const { data } of Object.values(tensors)) if (!isStrings(data)) bytesOf(data).fill(POISON);
}
