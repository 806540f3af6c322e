/** Configuration in, running objects out: the one place that names engines, policies and partitions together. */
import { systemClock, type Clock } from './base/clock.ts';
import { InferkvError } from './base/errors.ts';
import { createRandom } from './base/random.ts';
import { bytesOf, isStrings, type Tensors } from './base/tensor.ts';
import type { Explanation } from './cache/explanation.ts';
import type { HeapPartitionOptions } from './cache/heap-options.ts';
import { HeapPartition } from './cache/heap-partition.ts';
import type { PartitionStats } from './cache/partition.ts';
import type { TagStats } from './cache/statistics.ts';
import type { TenantStats } from './cache/tenants.ts';
import { PARTITION_NAMES, partitionSettings, type PartitionName, type PartitionSettings } from './config/partitions.ts';
import { checkOptions, type CheckedOptions } from './config/schema.ts';
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
import { modelTag, nameTag, ResultCache, tenantTag, type CachedIdentity } from './inference/result-cache.ts';
import { wrapOrtSession, type OrtSessionLike, type WrappedOrtSession } from './inference/wrapped-ort.ts';
import { WrappedEngine, WrappedSession } from './inference/wrapped-session.ts';
import { createArtifactReader, type ArtifactReader } from './models/artifacts.ts';
import { Catalog } from './models/catalog.ts';
import type { ModelSettings } from './models/model-settings.ts';
import { openRepository, type ModelListing, type Repository } from './models/repository.ts';
import { closeResident, Residency, type Resident } from './models/residency.ts';
import { createAdmission, createPolicy, type AdmissionName, type PolicyName } from './policies/registry.ts';

/** Settings of one partition. Its budget is hard, and no other partition's entries ever make room for its own. */
export interface PartitionOptions {
  /** Bytes, a size (`'2GB'`), or a share of the total budget (`'40%'`). */
  readonly budgetBytes?: number | string;
  /** What is evicted first. */
  readonly policy?: PolicyName;
  /** What may displace an entry; everything if left out. */
  readonly admission?: AdmissionName;
  /** Milliseconds an entry is kept; for ever if left out. */
  readonly ttlMs?: number;
  /** Values above this are served and not kept; a share is of the partition. */
  readonly maxEntryBytes?: number | string;
  /** What each tenant may take of the partition, in bytes or as a share of it; past it, its own entries leave first. */
  readonly maxTenantBytes?: number | string;
  /** What single tenants may take, by their name. */
  readonly quotas?: Readonly<Record<string, number | string>>;
}

/** What `invalidate` takes out: one entry by its key, or all with a tag, of a model (by its name), or of a tenant. */
export type Invalidation =
  | { readonly key: string }
  | { readonly tag: string }
  | { readonly model: string }
  | { readonly tenant: string };

/** What is known of a key, and in which partition; `undefined` where none knows it. */
export type CacheExplanation = Explanation & { readonly partition: PartitionName | undefined };

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
    /** Parameters of models; 10% and `gdsf` if left out. */
    readonly parameters?: PartitionOptions;
    /** Results; 10% and `lru` if left out. */
    readonly results?: PartitionOptions;
    /** Intermediate feature maps; 5% and `gdsf` if left out. */
    readonly activations?: PartitionOptions;
    /** Keys and values of prompts; 10% and `lru` if left out. */
    readonly attention?: PartitionOptions;
  };
  /** Milliseconds for which a model's file is taken as unchanged without looking; 1,000 if left out. */
  readonly recheckMs?: number;
  /** Seed of every random choice; 1 if left out. */
  readonly seed?: number;
  /** Overwrites freed result memory, so that reading after release shows; also by `INFERKV_DEBUG=1`. */
  readonly debug?: boolean;
  /** Further engines, asked before the built-in ones. */
  readonly engines?: readonly Engine[];
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
  stats(): Readonly<Record<PartitionName, PartitionStats>>;
  /** What tenants and tags have in a partition, the largest first, 100 of each if `limit` is left out; walks over its entries. */
  breakdown(
    partition: PartitionName,
    limit?: number,
  ): { readonly tenants: readonly TenantStats[]; readonly tags: readonly TagStats[] };
  /** What is known of a key: where its entry is, or why it is not here. `CacheReport.key` has the key of a result. */
  explain(key: string): CacheExplanation;
  /** Takes results and other derived entries out; gives their number. Loaded models stay: `CachedModel.unload` is for them. */
  invalidate(what: Invalidation): number;
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
  const { clock = systemClock, engines = [], ...rest } = options;
  return new ComposedCache(checkOptions(rest), [...engines, new OnnxEngine(), new TorchScriptEngine()], clock);
}

/** What is asked of a partition whatever its values are. */
type ManagedPartition = Pick<
  HeapPartition<unknown>,
  'close' | 'delete' | 'explain' | 'invalidateTag' | 'stats' | 'tagStats' | 'tenantStats'
>;

class ComposedCache implements InferenceCache {
  readonly #models: HeapPartition<Resident>;
  readonly #results: HeapPartition<Tensors>;
  readonly #partitions: Readonly<Record<PartitionName, ManagedPartition>>;
  readonly #resultCache: ResultCache;
  readonly #repository: Repository;
  readonly #artifacts: ArtifactReader;
  readonly #residency: Residency;
  readonly #parts: CachedModelParts;
  #closed = false;

  constructor(options: CheckedOptions, engines: readonly Engine[], clock: Clock) {
    const debug = options.debug ?? process.env['INFERKV_DEBUG'] === '1';
    const settings = partitionSettings(options);
    const made = { clock, seed: options.seed ?? 1 };
    this.#models = new HeapPartition<Resident>({ ...partitionOptions(settings.models, made), free: closeResident });
    this.#results = new HeapPartition<Tensors>({
      ...partitionOptions(settings.results, made),
      ...(debug && { free: poison }),
    });
    this.#partitions = {
      models: this.#models,
      parameters: new HeapPartition(partitionOptions(settings.parameters, made)),
      results: this.#results,
      activations: new HeapPartition(partitionOptions(settings.activations, made)),
      attention: new HeapPartition(partitionOptions(settings.attention, made)),
    };
    this.#resultCache = new ResultCache(this.#results, clock);
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
      partition: this.#models,
      clock,
      ...(keepAliveMs !== undefined && { keepAliveMs }),
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

  stats(): Readonly<Record<PartitionName, PartitionStats>> {
    const { models, parameters, results, activations, attention } = this.#partitions;
    return {
      models: models.stats(),
      parameters: parameters.stats(),
      results: results.stats(),
      activations: activations.stats(),
      attention: attention.stats(),
    };
  }

  breakdown(
    partition: PartitionName,
    limit?: number,
  ): { readonly tenants: readonly TenantStats[]; readonly tags: readonly TagStats[] } {
    const { [partition]: found } = this.#partitions;
    return { tenants: found.tenantStats(limit), tags: found.tagStats(limit) };
  }

  explain(key: string): CacheExplanation {
    let remembered = 0;
    for (const partition of PARTITION_NAMES) {
      const explanation = this.#partitions[partition].explain(key);
      if (explanation.state !== 'unknown') return { ...explanation, partition };
      remembered += explanation.remembered;
    }
    return { state: 'unknown', key, remembered, partition: undefined };
  }

  invalidate(what: Invalidation): number {
    const derived = PARTITION_NAMES.filter((name) => name !== 'models').map((name) => this.#partitions[name]);
    const take = (partition: ManagedPartition): number => {
      if ('key' in what) return partition.delete(what.key) ? 1 : 0;
      if ('tag' in what) return partition.invalidateTag(what.tag);
      return partition.invalidateTag('model' in what ? nameTag(what.model) : tenantTag(what.tenant));
    };
    return derived.reduce((sum, partition) => sum + take(partition), 0);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#residency.close();
    for (const name of PARTITION_NAMES) await this.#partitions[name].close();
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

function partitionOptions(
  { policy, admission, ...settings }: PartitionSettings,
  { clock, seed }: { readonly clock: Clock; readonly seed: number },
): Omit<HeapPartitionOptions<unknown>, 'free'> {
  return {
    ...settings,
    clock,
    random: createRandom(seed),
    policy: (context) => createPolicy(policy, context),
    admission: admission === undefined ? undefined : (context) => createAdmission(admission, context),
  };
}

/** Overwrites what was freed, so that whoever reads after release gets what cannot be taken for a result. */
function poison(tensors: Tensors): void {
  for (const { data } of Object.values(tensors)) if (!isStrings(data)) bytesOf(data).fill(POISON);
}
