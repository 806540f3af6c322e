/** The tiers below memory: which stores there are, how they are guarded, and how partitions are put upon them. */
import { systemClock, systemWallClock, type Clock, type WallClock } from './base/clock.ts';
import { InferkvError } from './base/errors.ts';
import { createRandom, type Random } from './base/random.ts';
import { TieredPartition, type MemoryPartition } from './cache/tiered-partition.ts';
import type { EntryWatcher } from './cache/entry-watcher.ts';
import type { ValueCodec } from './cache/value-codec.ts';
import type { CheckedOptions } from './config/schema.ts';
import { bytesOfSetting } from './config/sizes.ts';
import {
  partitionTiers,
  type PartitionTiers,
  type SigningKeySetting,
  type TierCommon,
  type TierSettings,
  type WriteBackSettings,
} from './config/tiers.ts';
import { createPolicy } from './policies/registry.ts';
import { createDiskStore } from './stores/disk/index.ts';
import { createDynamoDbStore } from './stores/dynamodb/index.ts';
import { createMemcachedStore } from './stores/memcached/index.ts';
import type { SigningKey } from './stores/record.ts';
import { createRedisStore } from './stores/redis/index.ts';
import { SharedMemoryRecords } from './stores/shared-memory/record-store.ts';
import type { EpochAuthority, GrantAuthority, Store } from './stores/store.ts';
import { ComputeOnce, type ComputeOnceStats } from './tiers/compute-once.ts';
import { Epochs, type EpochStats } from './tiers/epochs.ts';
import { GuardedStore, type GuardStats } from './tiers/guarded-store.ts';
import { Journal, type Durability } from './tiers/journal.ts';
import { Tier, type TierStats } from './tiers/tier.ts';
import { TierStack, type Level } from './tiers/tier-stack.ts';
import { Worth, type WorthStats } from './tiers/worth.ts';
import { WriteBack } from './tiers/write-back.ts';
import type { WriteBackStats } from './tiers/write-back-stats.ts';

const DISK_BYTES = 10e9;

/** What a tier has done and how it stands; numbers since the cache was made. */
export type TierReport = TierStats &
  GuardStats & {
    readonly place: 'disk' | 'remote';
    /** Fetches that were not made, or given up, as computing is faster. */
    readonly worth: WorthStats;
    /** Writes that are held back, where a partition writes `back`. */
    readonly back: WriteBackStats | undefined;
  };

/** All tiers, and what they share. */
export interface TiersReport {
  readonly tiers: readonly TierReport[];
  readonly epochs: EpochStats;
  /** Computations shared between nodes, where a tier can grant the right. */
  readonly singleFlight: ComputeOnceStats | undefined;
}

interface MadeTier {
  readonly tier: Tier;
  readonly guard: GuardedStore;
  readonly worth: Worth;
  readonly settings: TierSettings;
  writeBack: WriteBack | undefined;
}

/** Makes the tiers of a cache, and puts partitions upon them. Nothing is connected or opened before it is used. */
export class Tiers {
  readonly #made: ReadonlyMap<string, MadeTier>;
  readonly #settings: Readonly<Record<string, TierSettings>>;
  readonly #clock: Clock;
  readonly #wallClock: WallClock;
  readonly #epochs: Epochs;
  readonly #once: ComputeOnce | undefined;
  readonly #partitions: TieredPartition<never>[] = [];
  readonly #journals = new Map<string, Promise<Journal>>();

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` */
  constructor(options: CheckedOptions, clock: Clock, wallClock: WallClock = systemWallClock) {
    const { tiers = {}, seed = 1, maxStaleMs, singleFlight = 'auto' } = options;
    this.#settings = tiers;
    this.#clock = clock;
    this.#wallClock = wallClock;
    const random = createRandom(seed);
    this.#made = new Map(
      Object.entries(tiers).map(([name, settings]) => [name, this.#make(name, settings, random)] as const),
    );
    const guards = [...this.#made.values()].map(({ guard }) => guard);
    this.#epochs = new Epochs({ authority: authorityOf(guards), clock, base: Math.floor(wallClock()), maxStaleMs });
    const grants = singleFlight === 'off' ? undefined : grantsOf(guards);
    this.#once = grants === undefined ? undefined : new ComputeOnce({ grants, clock, random });
  }

  /** Whether there are any. */
  get areThere(): boolean {
    return this.#made.size > 0;
  }

  /** A partition whose values are kept further down, too. */
  put<V>(
    name: string,
    use: PartitionTiers,
    codec: ValueCodec<V>,
    ttlMs: number | undefined,
    memory: (watcher: EntryWatcher) => MemoryPartition<V>,
  ): TieredPartition<V> {
    const levels = partitionTiers(name, use, this.#settings).map((each): Level => {
      const made = this.#made.get(each.tier) as MadeTier;
      const { write = 'through', promotion = 'always', minUses = 0, minCostMs = 0 } = each;
      const writeBack = write === 'back' ? (made.writeBack ??= this.#makeWriteBack(made)) : undefined;
      return { tier: made.tier, worth: made.worth, write, writeBack, promotion, minUses, minCostMs };
    });
    const stack = new TierStack({ partition: name, levels, epochs: this.#epochs });
    const partition = new TieredPartition<V>({
      memory,
      stack,
      codec,
      ttlMs,
      epochs: this.#epochs,
      clock: this.#clock,
      wallClock: this.#wallClock,
      write: use.write ?? 'through',
      promotes: use.promotion !== 'never',
      // Who waits for another node's value is not to wait until that is flushed.
      once: levels.some(isShared) ? this.#once : undefined,
    });
    this.#partitions.push(partition as unknown as TieredPartition<never>);
    return partition;
  }

  /** Waits until everything that was written has come where it belongs. */
  async flush(): Promise<void> {
    for (const partition of this.#partitions) await partition.flush();
  }

  report(): TiersReport {
    const tiers = [...this.#made.values()].map(reportOf);
    return { tiers, epochs: this.#epochs.stats(), singleFlight: this.#once?.stats() };
  }

  /** Writes what is held back, then closes the stores. */
  async close(): Promise<void> {
    for (const { writeBack } of this.#made.values()) await writeBack?.close();
    for (const journal of this.#journals.values())
      await journal.then((opened) => opened.close()).catch(() => undefined);
    await this.#epochs.close();
    for (const { guard } of this.#made.values()) await guard.close();
  }

  /** The journal of this process in a folder; tiers with the same folder share it. */
  #journalIn(folder: string, durability: Exclude<Durability, 'none'>, syncMs: number | undefined): Promise<Journal> {
    let journal = this.#journals.get(folder);
    if (journal === undefined) {
      journal = Journal.open({ folder, durability, syncMs, clock: this.#clock, wallClock: this.#wallClock });
      // Who writes gets the error.
      journal.catch(() => undefined);
      this.#journals.set(folder, journal);
    }
    return journal;
  }

  #make(name: string, settings: TierSettings, random: Random): MadeTier {
    const { deadlineMs, writeDeadlineMs, maxConcurrent, maxQueued } = settings;
    const clock = this.#clock;
    const store = storeOf(name, settings, clock, this.#wallClock);
    const guard = new GuardedStore(store, { clock, random, deadlineMs, writeDeadlineMs, maxConcurrent, maxQueued });
    const signers = signersOf(name, settings, store);
    const tier = new Tier({ name, store: guard, signers, wallClock: this.#wallClock });
    return { tier, guard, worth: new Worth(guard.reads, clock, random), settings, writeBack: undefined };
  }

  #makeWriteBack({ tier, settings }: MadeTier): WriteBack {
    const { folder, syncMs, maxDirtyBytes, maxAgeMs, waitMs, whenFull, durability } = settings.back ?? {};
    const path = `tiers.${tier.name}.back`;
    const promise = durability ?? (folder === undefined ? 'none' : 'interval');
    return new WriteBack({
      target: tier,
      clock: this.#clock,
      wallClock: this.#wallClock,
      journal: promise === 'none' ? undefined : this.#journalIn(journalFolder(tier.name, { folder }), promise, syncMs),
      maxDirtyBytes: maxDirtyBytes === undefined ? undefined : bytesOfSetting(`${path}.maxDirtyBytes`, maxDirtyBytes),
      maxAgeMs,
      waitMs,
      whenFull,
    });
  }
}

/** Whether other nodes or processes find there what this one has written, as soon as it is. */
function isShared({ tier, write, minUses, minCostMs }: Level): boolean {
  return write === 'through' && tier.traits.reach !== 'process' && minUses === 0 && minCostMs === 0;
}

function reportOf({ tier, guard, worth, writeBack }: MadeTier): TierReport {
  const { place } = tier;
  return { ...guard.stats(), ...tier.stats(), place, worth: worth.stats(), back: writeBack?.stats() };
}

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` */
export function storeOf(
  name: string,
  settings: TierSettings,
  clock: Clock = systemClock,
  wallClock: WallClock = systemWallClock,
): Store {
  const size = (setting: string, value: number | string | undefined): number | undefined =>
    value === undefined ? undefined : bytesOfSetting(`tiers.${name}.${setting}`, value);
  const maxRecordBytes = size('maxRecordBytes', settings.maxRecordBytes);
  switch (settings.store) {
    case 'disk': {
      const { folder, durability } = settings;
      const budgetBytes = size('budgetBytes', settings.budgetBytes) ?? DISK_BYTES;
      return createDiskStore({ folder, durability, budgetBytes, clock, wallClock });
    }
    case 'redis': {
      // What belongs to the tier, and not to the store, it does not read.
      const { maxRecordBytes: _, ...options } = settings;
      return createRedisStore({
        ...options,
        ...(maxRecordBytes !== undefined && { maxRecordBytes }),
        clock,
        wallClock,
      });
    }
    case 'memcached': {
      const { servers, sasl, silenceMs, prefix } = settings;
      const maxItemBytes = size('maxItemBytes', settings.maxItemBytes);
      return createMemcachedStore({ servers, sasl, silenceMs, prefix, maxItemBytes, maxRecordBytes, clock, wallClock });
    }
    case 'dynamodb': {
      const { table, region, endpoint, prefix, consistentReads, maxAgeMs, sdkOptions } = settings;
      const place = { table, region, endpoint, prefix, sdkOptions };
      return createDynamoDbStore({ ...place, consistentReads, maxAgeMs, maxRecordBytes, clock, wallClock });
    }
    case 'shared-memory':
      return new SharedMemoryRecords({
        budgetBytes: bytesOfSetting(`tiers.${name}.budgetBytes`, settings.budgetBytes),
        policy: (facts) => createPolicy('lru', { ...facts, parent: () => -1, now: () => clock.now(), random: () => 0 }),
        clock,
      });
    default:
      return settings.store;
  }
}

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for a store that others can write to and that nobody said anything about */
function signersOf(
  name: string,
  { signingKeys, store }: TierCommon & { readonly store: unknown },
  made: Store,
): readonly SigningKey[] | undefined {
  if (signingKeys === false) return undefined;
  if (signingKeys !== undefined) return signingKeys.map(signerOf);
  // A caller's own store is the caller's own business.
  if (made.traits.reach !== 'network' || typeof store !== 'string') return undefined;
  throw new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    `tiers.${name} is reached over the network, so what it answers has to be signed: give signingKeys, [{ id: 1, secret: '...' }] with the same secret at every node, or false if nobody else can write there.`,
  );
}

function signerOf({ id, secret }: SigningKeySetting): SigningKey {
  return { id, secret: typeof secret === 'string' ? Buffer.from(secret) : secret };
}

function journalFolder(name: string, { folder }: WriteBackSettings): string {
  if (folder !== undefined) return folder;
  throw new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    `tiers.${name}.back.durability needs a journal: give tiers.${name}.back.folder, a folder on a local disk.`,
  );
}

/** Who keeps epochs for all: first whoever tells of changes, then whoever reaches the furthest. */
function authorityOf(guards: readonly GuardedStore[]): EpochAuthority | undefined {
  const byReach = [...guards].filter(({ epochs }) => epochs !== undefined).toSorted((a, b) => rank(b) - rank(a));
  return byReach[0]?.epochs;
}

function grantsOf(guards: readonly GuardedStore[]): GrantAuthority | undefined {
  const byReach = guards.filter(({ grants }) => grants !== undefined).toSorted((a, b) => rank(b) - rank(a));
  return byReach[0]?.grants;
}

function rank({ traits, epochs }: GuardedStore): number {
  const reach = traits.reach === 'network' ? 2 : traits.reach === 'machine' ? 1 : 0;
  return 2 * reach + (epochs?.subscribe === undefined ? 0 : 1);
}
