import { InferkvError } from '../base/errors.ts';
import type { Clock } from '../base/clock.ts';
import { DEPARTED } from './departures.ts';
import { checkFacts, checkLimits, checkSize, overheadOf } from './entry-facts.ts';
import type { Explanation } from './explanation.ts';
import { ADMITTED, HeapEntries } from './heap-entries.ts';
import type { HeapPartitionOptions } from './heap-options.ts';
import { HeapLease, type Holding } from './holding.ts';
import type {
  EntryFacts,
  Fetched,
  FetchOptions,
  Key,
  Lease,
  Loaded,
  Partition,
  PartitionStats,
  TierName,
} from './partition.ts';
import { SingleFlight, type Landing } from './single-flight.ts';
import { departureStats, tagStats, tenantStats, type TagStats } from './statistics.ts';
import type { TenantStats } from './tenants.ts';

/**
 * A partition whose values are JavaScript objects of this thread: sessions, results before they move to shared memory.
 * `get` and `set` allocate nothing once the partition has been as full as it gets.
 *
 * Callbacks may call the partition. `free` sees it without the entry it frees; a load may read and change it, and what it
 * loads then takes the place of what it put under its own key; a policy may not, and gets `ERR_INFERKV_REENTRANT`.
 */
export class HeapPartition<V> implements Partition<V> {
  readonly name: string;
  readonly #clock: Clock;
  readonly #entries: HeapEntries<V>;
  readonly #flights = new SingleFlight<Fetched<V>>();
  #joined = 0;
  #activeLeases = 0;

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for a budget, size or time that cannot be */
  constructor(options: HeapPartitionOptions<V>) {
    checkLimits(options);
    this.name = options.name;
    this.#clock = options.clock;
    this.#entries = new HeapEntries(options);
  }

  get(key: Key): V | undefined {
    const slot = this.#entries.use(key);
    return slot < 0 ? undefined : this.#entries.table.valueOf(slot);
  }

  lease(key: Key): Lease<V> | undefined {
    const slot = this.#entries.use(key);
    return slot < 0 ? undefined : this.#leaseOf(this.#entries.holdingOf(slot));
  }

  fetch(key: Key, load: (signal: AbortSignal) => Promise<Loaded<V>>, options: FetchOptions = {}): Promise<Fetched<V>> {
    if (this.#entries.isClosed) return Promise.reject(this.#closedError());
    if (options.refresh !== true) {
      const lease = this.lease(key);
      if (lease !== undefined) return Promise.resolve({ lease, status: 'hit', tier: 'memory' });
      const joined = this.#flights.join(key, options.signal);
      if (joined !== undefined) {
        this.#joined++;
        return joined;
      }
    }
    return this.#flights.start(key, (signal) => this.#load(key, load, options.reserveBytes, signal), options.signal);
  }

  set(key: Key, value: V, facts: EntryFacts): boolean {
    checkFacts(key, facts);
    const entries = this.#entries;
    entries.seat.assertIdle();
    const chargedBytes = facts.sizeBytes + overheadOf(key, facts.tags, facts.tenant !== undefined);
    entries.tellMiss(key, chargedBytes, facts.costMs);
    const verdict = entries.claim(key, facts, chargedBytes);
    if (verdict === ADMITTED) {
      entries.enter(key, value, facts, chargedBytes);
      return true;
    }
    entries.refuse(key, verdict, facts, chargedBytes);
    entries.freeing.free(value, 0);
    return false;
  }

  delete(key: Key): boolean {
    const entries = this.#entries;
    entries.seat.assertIdle();
    const slot = entries.index.find(key);
    if (slot < 0) return false;
    entries.leave(slot, DEPARTED.deleted);
    return true;
  }

  invalidateTag(tag: string): number {
    const entries = this.#entries;
    entries.seat.assertIdle();
    let gone = 0;
    for (const slot of entries.tags.slotsOf(tag)) {
      // A callback may have taken it out meanwhile.
      if (!entries.tags.has(tag, slot)) continue;
      entries.leave(slot, DEPARTED.invalidated, tag);
      gone++;
    }
    return gone;
  }

  /**
   * Corrects the size of an entry that was measured again; others are evicted for it if need be.
   *
   * @throws InferkvError `ERR_INFERKV_FACTS_INVALID`
   */
  resize(key: Key, sizeBytes: number): void {
    checkSize(key, sizeBytes);
    this.#entries.seat.assertIdle();
    const slot = this.#entries.index.find(key);
    if (slot >= 0) this.#entries.recharge(slot, sizeBytes);
  }

  /** Whether that many bytes would fit without taking out the entry of `key`; everything else that may go counts as room. */
  fitsBeside(bytes: number, key: Key): boolean {
    const { index, table, budget, evictableBytes } = this.#entries;
    const slot = index.find(key);
    const isEvictable = slot >= 0 && !table.isHeld(slot);
    const keptBytes = isEvictable ? table.chargedBytes(slot) : 0;
    return (
      budget.usedBytes - evictableBytes + keptBytes + bytes + overheadOf(key, undefined, false) <= budget.limitBytes
    );
  }

  /** The entry's value without counting as a use, for those who only look. */
  peek(key: Key): V | undefined {
    const slot = this.#entries.index.find(key);
    return slot < 0 ? undefined : this.#entries.table.valueOf(slot);
  }

  /** As `lease`, without counting as a use. */
  hold(key: Key): Lease<V> | undefined {
    const slot = this.#entries.index.find(key);
    return slot < 0 ? undefined : this.#leaseOf(this.#entries.holdingOf(slot));
  }

  /** Whether somebody leases the entry of `key`. */
  isLeased(key: Key): boolean {
    const slot = this.#entries.index.find(key);
    return slot >= 0 && this.#entries.table.isHeld(slot);
  }

  /** The keys that lie here, in no particular order. */
  keys(): IterableIterator<Key> {
    return this.#entries.index.keys();
  }

  explain(key: Key): Explanation {
    const { index, expiry, departures, seat } = this.#entries;
    const slot = index.find(key);
    if (slot >= 0 && !expiry.isOver(slot)) return this.#entries.describe(key, slot);
    if (slot >= 0) this.#entries.leave(slot, DEPARTED.expired);
    if (this.#flights.isUnderWay(key)) return { state: 'loading', key };
    return departures.find(key, seat.name) ?? { state: 'unknown', key, remembered: departures.length };
  }

  stats(): PartitionStats {
    const { index, budget, table, hits, misses, insertions, departedSavedMs, departures } = this.#entries;
    return {
      name: this.name,
      entries: index.size,
      usedBytes: budget.usedBytes,
      budgetBytes: budget.limitBytes,
      hits,
      misses,
      joined: this.#joined,
      insertions,
      activeLeases: this.#activeLeases,
      savedMs: departedSavedMs + table.savedMs(),
      ...departureStats(departures),
    };
  }

  tenantStats(limit?: number): readonly TenantStats[] {
    return tenantStats(this.#entries.tenants, this.#entries.table, limit);
  }

  tagStats(limit?: number): readonly TagStats[] {
    return tagStats(this.#entries.tags, this.#entries.table, limit);
  }

  async close(): Promise<void> {
    this.#entries.isClosed = true;
    this.#entries.expiry.stop();
    this.#entries.clear(DEPARTED.closed);
    await this.#entries.freeing.settled();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #load(
    key: Key,
    load: (signal: AbortSignal) => Promise<Loaded<V>>,
    reserveBytes: number | undefined,
    signal: AbortSignal,
  ): Promise<() => Landing<Fetched<V>>> {
    if (reserveBytes !== undefined) this.#entries.checkReservation(key, reserveBytes);
    const { budget, freeing } = this.#entries;
    const reserved = reserveBytes === undefined ? 0 : reserveBytes + overheadOf(key, undefined, false);
    if (reserved > 0) await budget.take(reserved, signal);
    const start = this.#clock.now();
    let loaded: Loaded<V> | undefined;
    let facts: EntryFacts;
    try {
      loaded = await load(signal);
      facts = { ...loaded, costMs: loaded.costMs ?? this.#clock.now() - start };
      checkFacts(key, facts);
    } catch (error) {
      if (reserved > 0) budget.give(reserved, false);
      // What comes with facts that cannot be is nobody's.
      if (loaded !== undefined) freeing.free(loaded.value, 0);
      throw error;
    }
    const { value, keep = true, isCurrent, tier } = loaded;
    const chargedBytes = facts.sizeBytes + overheadOf(key, facts.tags, facts.tenant !== undefined);
    return () => {
      const isKept = keep && isCurrent?.() !== false;
      return this.#landing(key, this.#land(key, value, isKept, facts, reserved), chargedBytes, tier);
    };
  }

  #landing(key: Key, holding: Holding<V>, chargedBytes: number, tier: TierName | undefined): Landing<Fetched<V>> {
    let came: Omit<Fetched<V>, 'lease'> = { status: tier === undefined ? 'miss' : 'hit', tier };
    return {
      share: () => {
        const shared = { lease: this.#leaseOf(holding), ...came };
        // The first waiter is the one that started the load, if it is still there.
        came = { status: 'joined', tier: undefined };
        this.#entries.tellMiss(key, chargedBytes, holding.costMs);
        return shared;
      },
      done: () => {
        if (holding.leases === 0) this.#letGo(holding);
      },
    };
  }

  /** Takes in what was loaded: kept if it fits, otherwise alive as long as its leases. */
  #land(key: Key, value: V, keep: boolean, facts: EntryFacts, reserved: number): Holding<V> {
    const entries = this.#entries;
    const { sizeBytes, costMs } = facts;
    const chargedBytes = sizeBytes + overheadOf(key, facts.tags, facts.tenant !== undefined);
    if (reserved > 0) {
      // The memory is in use already, so the correction is charged as a fact before anyone is evicted for it.
      entries.budget.correct(chargedBytes - reserved);
      const old = keep ? entries.index.find(key) : -1;
      if (old >= 0) entries.leave(old, DEPARTED.replaced);
      // Whoever frees what left may have called back: a newer value of this key stays, and a closed partition is closed.
      if (keep && !entries.isClosed && entries.index.find(key) < 0) {
        return entries.holdingOf(entries.enter(key, value, facts, chargedBytes));
      }
      return { value, costMs, sizeBytes, chargedBytes, slot: -1, leases: 0 };
    }
    if (keep) {
      const verdict = entries.claim(key, facts, chargedBytes);
      if (verdict === ADMITTED) return entries.holdingOf(entries.enter(key, value, facts, chargedBytes));
      entries.refuse(key, verdict, facts, chargedBytes);
    }
    // Served and not kept: it lives on its receivers' account, not on the budget's.
    return { value, costMs, sizeBytes, chargedBytes: 0, slot: -1, leases: 0 };
  }

  #leaseOf(holding: Holding<V>): Lease<V> {
    this.#activeLeases++;
    return new HeapLease(holding, this.#onRelease);
  }

  readonly #onRelease = (holding: Holding<V>): void => {
    this.#activeLeases--;
    if (holding.leases === 0) this.#letGo(holding);
  };

  #letGo(holding: Holding<V>): void {
    if (holding.slot < 0) this.#entries.freeing.free(holding.value, holding.chargedBytes);
    else this.#entries.unhold(holding);
  }

  #closedError(): InferkvError {
    return new InferkvError('ERR_INFERKV_CLOSED', `The partition ${this.name} is closed.`, { key: this.name });
  }
}
