import { throwIfAborted } from '../base/cancellation.ts';
import type { Clock, WallClock } from '../base/clock.ts';
import type { Computed, ComputeOnce } from '../tiers/compute-once.ts';
import type { Epochs } from '../tiers/epochs.ts';
import { tagEpochs, type Descent, type DescentReport, type Found, type TierStack } from '../tiers/tier-stack.ts';
import { digestOfKey } from './entry-digest.ts';
import { checkFacts } from './entry-facts.ts';
import type { EntryWatcher } from './entry-watcher.ts';
import type { Explanation } from './explanation.ts';
import type {
  EntryFacts,
  Fetched,
  FetchOptions,
  Key,
  Lease,
  Loaded,
  MakeDraft,
  Partition,
  PartitionStats,
} from './partition.ts';
import type { TagStats } from './statistics.ts';
import type { TenantStats } from './tenants.ts';
import type { EncodedValue, ValueCodec } from './value-codec.ts';

/** What lies in memory above the tiers. */
export interface MemoryPartition<V> extends Partition<V> {
  hold(key: Key): Lease<V> | undefined;
  tenantStats(limit?: number): readonly TenantStats[];
  tagStats(limit?: number): readonly TagStats[];
}

type Load<V> = (signal: AbortSignal, makeDraft?: MakeDraft<V>) => Promise<Loaded<V>>;

/** What a tiered partition is made of. */
export interface TieredPartitionOptions<V> {
  /** Makes what lies in memory; it tells the watcher of its entries. */
  readonly memory: (watcher: EntryWatcher) => MemoryPartition<V>;
  readonly stack: TierStack;
  readonly epochs: Epochs;
  readonly codec: ValueCodec<V>;
  readonly clock: Clock;
  readonly wallClock: WallClock;
  /** Whether memory takes in what is written, or only what is read. */
  readonly write: 'through' | 'around';
  /** Whether memory takes in what a tier had. */
  readonly promotes: boolean;
  /** Milliseconds an entry lives unless its own facts say otherwise. */
  readonly ttlMs?: number | undefined;
  /** Has one node compute for all; every node for itself if left out. */
  readonly once?: ComputeOnce | undefined;
}

const CLOSE_MS = 5000;

/** A load that has not landed; what it lands is kept unless its key was taken out meanwhile. */
interface Flight {
  readonly tags: readonly string[];
  isWanted: boolean;
}

/** What became of a value that was put. */
export interface PutReport {
  readonly memory: boolean;
  readonly tiers: DescentReport;
}

/**
 * A partition with tiers below it. What lies in memory is found as in any partition, without a promise; what does not is
 * looked for further down before it is loaded, and what was loaded goes down as each tier's write mode says.
 *
 * While it is not certain that this node has heard of every invalidation, for longer than may be, everything is a miss.
 */
export class TieredPartition<V> implements MemoryPartition<V> {
  readonly name: string;
  readonly #memory: MemoryPartition<V>;
  readonly #options: TieredPartitionOptions<V>;
  readonly #stack: TierStack;
  readonly #epochs: Epochs;
  readonly #flights = new Map<Key, Set<Flight>>();

  constructor(options: TieredPartitionOptions<V>) {
    this.#options = options;
    this.#stack = options.stack;
    this.#epochs = options.epochs;
    this.#memory = options.memory({
      uses: options.stack.minUses,
      reached: (key) => queueMicrotask(() => this.#descendUsed(key)),
      left: (key) => this.#stack.evicted(digestOfKey(key)),
    });
    this.name = this.#memory.name;
    this.#epochs.onInvalidated((tag) => {
      for (const flights of this.#flights.values()) {
        for (const flight of flights) if (flight.tags.includes(tag)) flight.isWanted = false;
      }
      this.#memory.invalidateTag(tag);
    });
  }

  get(key: Key): V | undefined {
    return this.#epochs.isTrusted ? this.#memory.get(key) : undefined;
  }

  lease(key: Key): Lease<V> | undefined {
    return this.#epochs.isTrusted ? this.#memory.lease(key) : undefined;
  }

  hold(key: Key): Lease<V> | undefined {
    return this.#epochs.isTrusted ? this.#memory.hold(key) : undefined;
  }

  fetch(key: Key, load: Load<V>, options: FetchOptions = {}): Promise<Fetched<V>> {
    if (this.#epochs.isTrusted) {
      // Who asks after an invalidation does not get what was begun before it.
      const flights = [...(this.#flights.get(key) ?? [])];
      const isOutdated = flights.length > 0 && flights.every(({ isWanted }) => !isWanted);
      const inMemory = isOutdated ? { ...options, refresh: true } : options;
      return this.#memory.fetch(key, (signal, draft) => this.#load(key, load, options, signal, draft), inMemory);
    }
    // Equal requests still share a load; nothing of it is kept, and nothing that was kept is found.
    const apart = `${key} ${this.#epochs.distrusted}`;
    return this.#memory.fetch(
      apart,
      async (signal) => ({ ...(await load(signal)), keep: false, draft: undefined }),
      options,
    );
  }

  /**
   * Puts a value into memory at once, and sends it down; `false` if memory did not keep it. Who must know that the tiers have it
   * calls `put`.
   */
  set(key: Key, value: V, facts: EntryFacts): boolean {
    checkFacts(key, facts);
    this.#forgetFlights(key);
    const { tags = [] } = facts;
    const epochs = this.#epochs.present(tags);
    // Of tags that are not known nobody could tell whether they have been invalidated.
    if (epochs === undefined) {
      this.#stack.track(this.#epochs.ready(tags));
      this.delete(key);
      return false;
    }
    const descent = this.#describe(key, value, facts, epochs);
    const isKept = this.#setInMemory(key, value, facts);
    if (descent === undefined || !this.#stack.writeLater({ ...descent, replaces: true })) {
      this.#stack.deleteLater(digestOfKey(key));
    }
    return isKept;
  }

  /** Puts a value in; settles when every tier has acknowledged it that is to, or has failed, and says which. */
  async put(key: Key, value: V, facts: EntryFacts, signal?: AbortSignal): Promise<PutReport> {
    throwIfAborted(signal);
    checkFacts(key, facts);
    this.#forgetFlights(key);
    const epochs = await this.#epochs.ready(facts.tags ?? [], signal);
    const descent = this.#describe(key, value, facts, epochs);
    if (epochs === undefined || descent === undefined) {
      const isKept = epochs !== undefined && this.#setInMemory(key, value, facts);
      if (!isKept) this.#memory.delete(key);
      await this.#stack.delete(digestOfKey(key));
      return { memory: isKept, tiers: {} };
    }
    const memory = this.#setInMemory(key, value, facts);
    return { memory, tiers: await this.#stack.write({ ...descent, replaces: true, signal }) };
  }

  /** Takes an entry out of memory at once, and out of every tier; `settled` waits for these. */
  delete(key: Key): boolean {
    this.#forgetFlights(key);
    const wasHere = this.#memory.delete(key);
    this.#stack.deleteLater(digestOfKey(key));
    return wasHere;
  }

  /**
   * Takes out every entry with that tag; gives the number of those that lay in memory. What lies further down, and what other
   * nodes have, is out of date from then on, and never served again.
   */
  invalidateTag(tag: string): number {
    const gone = this.#memory.invalidateTag(tag);
    // Goes on until the authority has heard of it; here it holds from now on.
    void this.#epochs.bump([tag]);
    return gone;
  }

  explain(key: Key): Explanation {
    return this.#memory.explain(key);
  }

  stats(): PartitionStats {
    return this.#memory.stats();
  }

  tenantStats(limit?: number): readonly TenantStats[] {
    return this.#memory.tenantStats(limit);
  }

  tagStats(limit?: number): readonly TagStats[] {
    return this.#memory.tagStats(limit);
  }

  /** Waits until everything that was put has gone down. */
  flush(): Promise<void> {
    return this.#stack.flush();
  }

  async close(): Promise<void> {
    // An invalidation that cannot be told is tried for ever: nobody is to wait for that.
    const patience = Promise.withResolvers<void>();
    const timer = this.#options.clock.after(CLOSE_MS, patience.resolve);
    await Promise.race([this.#stack.settled(), patience.promise]);
    timer.cancel();
    await this.#memory.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Looks below, and loads what is not there. */
  async #load(
    key: Key,
    load: Load<V>,
    options: FetchOptions,
    signal: AbortSignal,
    makeDraft: MakeDraft<V> | undefined,
  ): Promise<Loaded<V>> {
    const { tags = [], tenant, group, refresh = false } = options;
    let begun = this.#epochs.present(tags);
    // A tag that is heard of for the first time is no invalidation of what is begun only then.
    begun ??= await this.#epochs.ready(tags, signal);
    const flight = this.#take(key, tags);
    try {
      const isCurrent = (): boolean => flight.isWanted && begun !== undefined && this.#epochs.areStill(tags, begun);
      const digest = digestOfKey(key);
      const read = async (stop: AbortSignal): Promise<Loaded<V> | undefined> => {
        const found = await this.#stack.find(digest, { tenant, tags, group, signal: stop });
        return found === undefined ? undefined : this.#landed(found, digest);
      };
      const there = refresh || begun === undefined ? undefined : await read(signal);
      if (there !== undefined) return { ...there, isCurrent };
      const compute = async (token: number): Promise<Computed<Loaded<V>>> => {
        const start = this.#options.clock.now();
        const loaded = await load(signal, makeDraft);
        const costMs = loaded.costMs ?? this.#options.clock.now() - start;
        this.#stack.learn(group, loaded.sizeBytes, costMs);
        // A tag that was not known before the load may have been invalidated during it: nobody could tell.
        const isKnown = (loaded.tags ?? []).every((tag) => tags.includes(tag));
        const keep = loaded.keep !== false && isKnown && isCurrent();
        const facts = { ...loaded, costMs, tags };
        const descent = keep ? this.#describe(key, loaded.value, facts, begun, token) : undefined;
        const value = { ...facts, keep: keep && this.#options.write !== 'around' };
        return { value, published: this.#publish(digest, descent, refresh, token).catch(() => undefined) };
      };
      const { once } = this.#options;
      if (once === undefined || refresh || begun === undefined) return { ...(await compute(0)).value, isCurrent };
      const costMs = this.#stack.costMs(group);
      const work = { name: this.#stack.nameOf(digest), costMs, signal, read, compute };
      return { ...(await once.run(work)), isCurrent };
    } finally {
      this.#give(key, flight);
    }
  }

  /** A value that a tier had; `undefined` if its record is whole and yet no value, as of another version of the codec. */
  #landed({ record, level }: Found, digest: Uint8Array): Loaded<V> | undefined {
    const { payload, metadata, costMs, expiresAtMs, tags, tenant } = record;
    let value: V;
    try {
      value = this.#options.codec.decode(payload, metadata);
    } catch {
      level.tier.doubtHit(this.#stack.nameOf(digest), 'format');
      return undefined;
    }
    const ttlMs =
      expiresAtMs === Number.POSITIVE_INFINITY ? undefined : Math.max(0, expiresAtMs - this.#options.wallClock());
    return {
      value,
      costMs,
      sizeBytes: payload.length,
      tags: tags.map(({ tag }) => tag),
      tenant: tenant === '' ? undefined : tenant,
      ...(ttlMs !== undefined && { ttlMs }),
      keep: this.#options.promotes,
      tier: level.tier.place,
    };
  }

  /** Sends down what was computed; whoever computed it does not wait for that. */
  async #publish(digest: Uint8Array, descent: Descent | undefined, refresh: boolean, token: number): Promise<void> {
    if (refresh && descent === undefined) this.#stack.deleteLater(digest);
    if (descent === undefined) return;
    const replacing = { ...descent, replaces: refresh };
    if (token === 0) {
      if (!this.#stack.writeLater(replacing) && refresh) this.#stack.deleteLater(digest);
      return;
    }
    // Others wait for it.
    const written = this.#stack.write(replacing);
    this.#stack.track(written);
    await written;
  }

  #setInMemory(key: Key, value: V, facts: EntryFacts): boolean {
    if (this.#options.write !== 'around') return this.#memory.set(key, value, facts);
    this.#memory.delete(key);
    return false;
  }

  /** A value as it goes down; `undefined` where it is not known what it was made under. */
  #describe(
    key: Key,
    value: V,
    { costMs, ttlMs = this.#options.ttlMs, tags = [], tenant = '' }: EntryFacts,
    epochs: readonly number[] | undefined,
    token: number = 0,
  ): Descent | undefined {
    if (epochs === undefined || this.#stack.levels.length === 0) return undefined;
    const { codec, wallClock } = this.#options;
    let encoded: EncodedValue;
    try {
      encoded = codec.encode(value);
    } catch {
      // It can be served, and lie in this thread's memory, and has no form outside of it.
      return undefined;
    }
    const { metadata } = encoded;
    const payload = new Uint8Array(encoded.lengthBytes);
    encoded.write(payload);
    const madeAtMs = wallClock();
    const expiresAtMs = ttlMs === undefined ? Number.POSITIVE_INFINITY : madeAtMs + ttlMs;
    return {
      digest: digestOfKey(key),
      record: { tenant, tags: tagEpochs(tags, epochs), metadata, payload, costMs, expiresAtMs, madeAtMs, token },
      ttlMs: ttlMs === Number.POSITIVE_INFINITY ? undefined : ttlMs,
      uses: 0,
      replaces: false,
    };
  }

  /** Sends a value down that has proved to be used. */
  #descendUsed(key: Key): void {
    const explained = this.#memory.explain(key);
    if (explained.state !== 'present') return;
    using lease = this.#memory.hold(key);
    if (lease === undefined) return;
    const { tags, tenant, costMs, sizeBytes, expiresInMs, uses } = explained;
    const facts = { tags, tenant, costMs, sizeBytes, ...(expiresInMs !== undefined && { ttlMs: expiresInMs }) };
    const descent = this.#describe(key, lease.value, facts, this.#epochs.present(tags));
    if (descent !== undefined) this.#stack.writeLater({ ...descent, uses });
  }

  #take(key: Key, tags: readonly string[]): Flight {
    const flight = { tags, isWanted: true };
    const flights = this.#flights.get(key) ?? new Set();
    flights.add(flight);
    this.#flights.set(key, flights);
    return flight;
  }

  #give(key: Key, flight: Flight): void {
    const flights = this.#flights.get(key);
    flights?.delete(flight);
    if (flights?.size === 0) this.#flights.delete(key);
  }

  /** What is being loaded under this key is out of date before it is there. */
  #forgetFlights(key: Key): void {
    for (const flight of this.#flights.get(key) ?? []) flight.isWanted = false;
  }
}
