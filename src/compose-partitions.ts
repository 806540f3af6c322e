/** The partitions of a cache: which there are, with which policies and stores, and what is asked of all of them together. */
import type { Clock } from './base/clock.ts';
import { InferkvError } from './base/errors.ts';
import { createRandom } from './base/random.ts';
import { bytesOf, isStrings, type Tensors } from './base/tensor.ts';
import type { Explanation } from './cache/explanation.ts';
import type { HeapPartitionOptions } from './cache/heap-options.ts';
import { HeapPartition } from './cache/heap-partition.ts';
import type { PartitionStats } from './cache/partition.ts';
import type { SharedPartitionHandle } from './cache/shared-messages.ts';
import { SharedPartition } from './cache/shared-partition.ts';
import type { TagStats } from './cache/statistics.ts';
import { tensorCodec } from './cache/tensor-codec.ts';
import type { TenantStats } from './cache/tenants.ts';
import { PARTITION_NAMES, partitionSettings, type PartitionName, type PartitionSettings } from './config/partitions.ts';
import { Tiers } from './compose-tiers.ts';
import type { EntryWatcher } from './cache/entry-watcher.ts';
import type { MemoryPartition } from './cache/tiered-partition.ts';
import type { CheckedOptions } from './config/schema.ts';
import { nameTag, tenantTag } from './inference/result-cache.ts';
import { closeResident, type Resident } from './models/residency.ts';
import { WhatIfs, type ListenedPartition, type WhatIfReport } from './compose-what-if.ts';
import { isSampler, listenersTogether, type UseListener, type UseSampler } from './telemetry/use-listener.ts';
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

/** What tenants and tags have in a partition. */
export interface Breakdown {
  readonly tenants: readonly TenantStats[];
  readonly tags: readonly TagStats[];
}

/** What is asked of a partition whatever its values are. */
type AnyPartition = Pick<
  HeapPartition<unknown>,
  'close' | 'delete' | 'explain' | 'invalidateTag' | 'stats' | 'tagStats' | 'tenantStats'
>;

/** Says who is told of every use of a partition. */
type Listen = (partition: ListenedPartition) => UseListener | undefined;

const POISON = 0xdb;

/** All partitions of a cache. Nothing fills `parameters`, `activations` and `attention` yet; their room is set aside. */
export class Partitions {
  readonly models: HeapPartition<Resident>;
  readonly results: MemoryPartition<Tensors>;
  readonly tiers: Tiers;
  #shared: SharedPartition<Tensors> | undefined;
  readonly #byName: Readonly<Record<PartitionName, AnyPartition>>;
  readonly #whatIfs: WhatIfs;

  constructor(options: CheckedOptions, clock: Clock, listen?: Listen) {
    const settings = partitionSettings(options);
    const seed = options.seed ?? 1;
    const heap = (name: PartitionName): HeapPartition<unknown> =>
      new HeapPartition(partitionOptions(settings[name], clock, seed));
    this.#whatIfs = new WhatIfs(options.whatIf, settings);
    const told = (name: ListenedPartition): Listeners => listenersOf(listen?.(name), this.#whatIfs.of(name));
    this.models = new HeapPartition<Resident>({
      ...partitionOptions(settings.models, clock, seed),
      free: closeResident,
      ...told('models'),
    });
    const memory = (watcher?: EntryWatcher): MemoryPartition<Tensors> => {
      const made = resultsOf(options, {
        ...partitionOptions(settings.results, clock, seed),
        ...told('results'),
        watcher,
      });
      if (made instanceof SharedPartition) this.#shared = made;
      return made;
    };
    this.tiers = new Tiers(options, clock);
    this.results = this.#resultsUpon(options, settings.results.ttlMs, memory);
    this.#byName = {
      models: this.models,
      parameters: heap('parameters'),
      results: this.results,
      activations: heap('activations'),
      attention: heap('attention'),
    };
  }

  stats(): Readonly<Record<PartitionName, PartitionStats>> {
    const { models, parameters, results, activations, attention } = this.#byName;
    return {
      models: models.stats(),
      parameters: parameters.stats(),
      results: results.stats(),
      activations: activations.stats(),
      attention: attention.stats(),
    };
  }

  breakdown(name: PartitionName, limit: number | undefined): Breakdown {
    const { [name]: partition } = this.#byName;
    return { tenants: partition.tenantStats(limit), tags: partition.tagStats(limit) };
  }

  explain(key: string): CacheExplanation {
    let remembered = 0;
    for (const partition of PARTITION_NAMES) {
      const explanation = this.#byName[partition].explain(key);
      if (explanation.state !== 'unknown') return { ...explanation, partition };
      remembered += explanation.remembered;
    }
    return { state: 'unknown', key, remembered, partition: undefined };
  }

  /** Takes entries out of every partition but `models`, whose entries are let go by their owner; gives their number. */
  invalidate(what: Invalidation): number {
    const take = (partition: AnyPartition): number => {
      if ('key' in what) return partition.delete(what.key) ? 1 : 0;
      if ('tag' in what) return partition.invalidateTag(what.tag);
      return partition.invalidateTag('model' in what ? nameTag(what.model) : tenantTag(what.tenant));
    };
    const derived = PARTITION_NAMES.filter((name) => name !== 'models');
    return derived.reduce((sum, name) => sum + take(this.#byName[name]), 0);
  }

  /** @throws InferkvError `ERR_INFERKV_WHAT_IF_OFF`, `ERR_INFERKV_WORKER_LOST` */
  whatIf(): Promise<readonly WhatIfReport[]> {
    return this.#whatIfs.reports();
  }

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` unless results lie in shared memory */
  handle(): SharedPartitionHandle {
    if (this.#shared !== undefined) return this.#shared.handle();
    throw new InferkvError(
      'ERR_INFERKV_CONFIG_INVALID',
      "The results lie in the main thread's own memory; set partitions.results.storage to 'shared'.",
    );
  }

  /** Closes every partition but `models`, which its owner closes. */
  async close(): Promise<void> {
    for (const name of PARTITION_NAMES) if (name !== 'models') await this.#byName[name].close();
    await this.tiers.close();
    await this.#whatIfs.close();
  }

  #resultsUpon(
    { partitions }: CheckedOptions,
    ttlMs: number | undefined,
    memory: (watcher?: EntryWatcher) => MemoryPartition<Tensors>,
  ): MemoryPartition<Tensors> {
    const use = partitions?.results ?? {};
    if (this.tiers.areThere || use.tiers !== undefined)
      return this.tiers.put('results', use, tensorCodec, ttlMs, memory);
    return memory();
  }
}

function resultsOf(
  { partitions, debug = process.env['INFERKV_DEBUG'] === '1' }: CheckedOptions,
  settings: Omit<HeapPartitionOptions<Tensors>, 'free' | keyof Listeners> & Listeners,
): HeapPartition<Tensors> | SharedPartition<Tensors> {
  const options = { ...settings, ...(debug && { free: poison }) };
  if (partitions?.results?.storage !== 'shared') return new HeapPartition<Tensors>(options);
  const { listener, sampler, ...shared } = options;
  return new SharedPartition<Tensors>({
    ...shared,
    listener: listenersTogether([listener, sampler]),
    codec: tensorCodec,
    ...(debug && { fillByte: POISON }),
  });
}

interface Listeners {
  readonly listener: UseListener | undefined;
  readonly sampler: (UseListener & UseSampler) | undefined;
}

/** Who is told one by one, and who in batches. */
function listenersOf(given: UseListener | undefined, whatIf: (UseListener & UseSampler) | undefined): Listeners {
  if (whatIf === undefined && given !== undefined && isSampler(given)) return { listener: undefined, sampler: given };
  return { listener: given, sampler: whatIf };
}

function partitionOptions(
  { policy, admission, ...settings }: PartitionSettings,
  clock: Clock,
  seed: number,
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
