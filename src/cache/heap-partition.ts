import { invariant } from '../base/assertions.ts';
import { InferkvError } from '../base/errors.ts';
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import type { Departure, Policy, PolicyContext, PolicyFactory } from '../policies/policy.ts';
import type { UseListener } from '../telemetry/use-listener.ts';
import { ByteBudget } from './byte-budget.ts';
import { HeapLease, type Holding } from './holding.ts';
import type { EntryFacts, Fetched, FetchOptions, Key, Lease, Loaded, Partition, PartitionStats } from './partition.ts';
import { SingleFlight, type Landing } from './single-flight.ts';

/** What a heap partition is made of. */
export interface HeapPartitionOptions<V> {
  readonly name: string;
  readonly budgetBytes: number;
  readonly policy: PolicyFactory;
  readonly clock: Clock;
  readonly random: Random;
  /** Entries above this are served and not kept; the whole budget if left out. */
  readonly maxEntryBytes?: number;
  /** Milliseconds an entry lives unless its own facts say otherwise; `Infinity` if left out. */
  readonly ttlMs?: number;
  /** Frees what a value holds on to, once it has left and nobody leases it; its bytes come back when this is done. */
  readonly free?: (value: V) => void | Promise<void>;
  /** Is told of every use. */
  readonly listener?: UseListener | undefined;
}

/** Bytes an entry takes besides its value: its record, its key, its place in the index and in the policy. */
export const ENTRY_OVERHEAD_BYTES = 320;

// Slots looked at for expiry on each insertion: at least as many as can come in, so the dead never pile up.
const SWEEP_STEP = 2;

/** A partition whose values are JavaScript objects of this thread: sessions, results before they move to shared memory. */
export class HeapPartition<V> implements Partition<V> {
  readonly name: string;
  readonly #options: HeapPartitionOptions<V>;
  readonly #index = new Map<Key, Holding<V>>();
  readonly #slots: (Holding<V> | undefined)[] = [];
  readonly #freeSlots: number[] = [];
  readonly #byTag = new Map<string, Set<Holding<V>>>();
  readonly #flights = new SingleFlight<Fetched<V>>();
  readonly #budget: ByteBudget;
  readonly #policy: Policy;
  readonly #frees = new Set<Promise<void>>();
  #evictableBytes = 0;
  #sweepAt = 0;
  #closed = false;
  #counts = {
    hits: 0,
    misses: 0,
    joined: 0,
    insertions: 0,
    evictions: 0,
    expirations: 0,
    refusals: 0,
    activeLeases: 0,
    savedMs: 0,
  };

  constructor(options: HeapPartitionOptions<V>) {
    this.name = options.name;
    this.#options = options;
    this.#budget = new ByteBudget(options.budgetBytes, {
      evictableBytes: () => this.#evictableBytes,
      evictOne: () => this.#evictOne(),
    });
    this.#policy = options.policy(this.#policyContext());
  }

  get(key: Key): V | undefined {
    return this.#use(key)?.value;
  }

  lease(key: Key): Lease<V> | undefined {
    const holding = this.#use(key);
    return holding === undefined ? undefined : this.#leaseOf(holding);
  }

  fetch(key: Key, load: (signal: AbortSignal) => Promise<Loaded<V>>, options: FetchOptions = {}): Promise<Fetched<V>> {
    if (this.#closed) return Promise.reject(this.#closedError());
    if (options.refresh !== true) {
      const lease = this.lease(key);
      if (lease !== undefined) return Promise.resolve({ lease, status: 'hit', tier: 'memory' });
      const joined = this.#flights.join(key, options.signal);
      if (joined !== undefined) {
        this.#counts.joined++;
        return joined;
      }
    }
    return this.#flights.start(key, (signal) => this.#load(key, load, options.reserveBytes, signal), options.signal);
  }

  set(key: Key, value: V, facts: EntryFacts): boolean {
    const chargedBytes = facts.sizeBytes + ENTRY_OVERHEAD_BYTES;
    const holding = this.#holdingOf(key, value, facts, chargedBytes);
    this.#tell(holding, chargedBytes, false);
    const kept = this.#mayHold(key, chargedBytes) && this.#admit(holding);
    if (!kept) {
      this.#counts.refusals++;
      void this.#free(holding, false);
    }
    return kept;
  }

  delete(key: Key): boolean {
    const holding = this.#index.get(key);
    if (holding === undefined) return false;
    this.#leave(holding, 'removed');
    return true;
  }

  invalidateTag(tag: string): number {
    const tagged = [...(this.#byTag.get(tag) ?? [])];
    for (const holding of tagged) this.#leave(holding, 'removed');
    return tagged.length;
  }

  /** Corrects the size of an entry that was measured again; others are evicted for it if need be. */
  resize(key: Key, sizeBytes: number): void {
    const holding = this.#index.get(key);
    if (holding === undefined) return;
    const delta = sizeBytes + ENTRY_OVERHEAD_BYTES - holding.chargedBytes;
    if (delta === 0) return;
    holding.chargedBytes += delta;
    if (holding.leases === 0) this.#evictableBytes += delta;
    this.#policy.update(holding.slot);
    this.#budget.correct(delta);
  }

  /** Whether that many bytes would fit without taking out the entry of `key`; everything else that may go counts as room. */
  fitsBeside(bytes: number, key: Key): boolean {
    const beside = this.#index.get(key);
    const keptBytes = beside?.leases === 0 ? beside.chargedBytes : 0;
    const fixedBytes = this.#budget.usedBytes - this.#evictableBytes + keptBytes;
    return fixedBytes + bytes + ENTRY_OVERHEAD_BYTES <= this.#budget.limitBytes;
  }

  /** The entry's value without counting as a use, for those who only look. */
  peek(key: Key): V | undefined {
    return this.#index.get(key)?.value;
  }

  /** Whether somebody leases the entry of `key`. */
  isLeased(key: Key): boolean {
    return (this.#index.get(key)?.leases ?? 0) > 0;
  }

  /** The keys that lie here, in no particular order. */
  keys(): IterableIterator<Key> {
    return this.#index.keys();
  }

  stats(): PartitionStats {
    return {
      name: this.name,
      entries: this.#index.size,
      usedBytes: this.#budget.usedBytes,
      budgetBytes: this.#budget.limitBytes,
      ...this.#counts,
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const holding of this.#index.values()) this.#leave(holding, 'removed');
    while (this.#frees.size > 0) await Promise.allSettled(this.#frees);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #policyContext(): PolicyContext {
    const at = (slot: number): Holding<V> => {
      const holding = this.#slots[slot];
      invariant(holding !== undefined, `policy ${this.#options.name} asked for the empty slot ${slot}`);
      return holding;
    };
    return {
      sizeBytes: (slot) => at(slot).chargedBytes,
      costMs: (slot) => at(slot).costMs,
      identity: (slot) => fingerprint(at(slot).key),
      parent: () => -1,
      isPinned: (slot) => at(slot).leases > 0,
      now: () => this.#options.clock.now(),
      random: () => this.#options.random.next(),
      budgetBytes: this.#options.budgetBytes,
    };
  }

  #use(key: Key): Holding<V> | undefined {
    const holding = this.#index.get(key);
    if (holding === undefined) {
      this.#counts.misses++;
      return undefined;
    }
    if (holding.expiresAt <= this.#options.clock.now()) {
      this.#expire(holding);
      this.#counts.misses++;
      return undefined;
    }
    this.#policy.touch(holding.slot);
    this.#counts.hits++;
    this.#counts.savedMs += holding.costMs;
    this.#tell(holding, holding.chargedBytes, true);
    return holding;
  }

  #tell({ key, costMs }: Holding<V>, chargedBytes: number, isHit: boolean): void {
    const { listener } = this.#options;
    if (listener === undefined) return;
    const identity = fingerprint(key) | 0;
    if (listener.wants(identity)) listener.used(key, identity, chargedBytes, costMs, isHit);
  }

  async #load(
    key: Key,
    load: (signal: AbortSignal) => Promise<Loaded<V>>,
    reserveBytes: number | undefined,
    signal: AbortSignal,
  ): Promise<() => Landing<Fetched<V>>> {
    const reserved = reserveBytes === undefined ? 0 : reserveBytes + ENTRY_OVERHEAD_BYTES;
    if (reserved > 0) await this.#budget.take(reserved, signal);
    let loaded: Loaded<V>;
    const { clock } = this.#options;
    const start = clock.now();
    try {
      loaded = await load(signal);
    } catch (error) {
      if (reserved > 0) this.#budget.give(reserved, false);
      throw error;
    }
    const facts: EntryFacts = { ...loaded, costMs: loaded.costMs ?? clock.now() - start };
    return () => this.#landing(this.#land(key, loaded, facts, reserved), facts.sizeBytes + ENTRY_OVERHEAD_BYTES);
  }

  #landing(holding: Holding<V>, bytes: number): Landing<Fetched<V>> {
    let status: 'miss' | 'joined' = 'miss';
    return {
      share: () => {
        const shared = { lease: this.#leaseOf(holding), status, tier: undefined };
        // The first waiter is the one that started the load, if it is still there.
        status = 'joined';
        this.#tell(holding, bytes, false);
        return shared;
      },
      done: () => {
        if (holding.slot < 0 && holding.leases === 0) void this.#free(holding, holding.chargedBytes > 0);
      },
    };
  }

  /** Takes in what was loaded: kept if it fits, otherwise alive as long as its leases. */
  #land(key: Key, { value, keep = true }: Loaded<V>, facts: EntryFacts, reserved: number): Holding<V> {
    const chargedBytes = facts.sizeBytes + ENTRY_OVERHEAD_BYTES;
    const holding = this.#holdingOf(key, value, facts, chargedBytes);
    if (reserved > 0) {
      // The memory is in use already, so the correction is charged as a fact before anyone is evicted for it.
      this.#budget.correct(chargedBytes - reserved);
      if (!this.#closed && keep) this.#enter(holding);
      return holding;
    }
    if (!keep || !this.#mayHold(key, chargedBytes) || !this.#admit(holding)) {
      if (keep) this.#counts.refusals++;
      // Served and not kept: it lives on its receivers' account, not on the budget's.
      holding.chargedBytes = 0;
    }
    return holding;
  }

  /** Whether an entry of that size may lie here at all; the value it would have replaced is out of date either way. */
  #mayHold(key: Key, chargedBytes: number): boolean {
    this.delete(key);
    const maxEntryBytes = this.#options.maxEntryBytes ?? Number.POSITIVE_INFINITY;
    const fits = chargedBytes <= this.#budget.limitBytes && chargedBytes - ENTRY_OVERHEAD_BYTES <= maxEntryBytes;
    return fits && !this.#closed;
  }

  #admit(holding: Holding<V>): boolean {
    this.#sweep();
    if (!this.#budget.tryTake(holding.chargedBytes)) return false;
    this.#enter(holding);
    return true;
  }

  #holdingOf(key: Key, value: V, facts: EntryFacts, chargedBytes: number): Holding<V> {
    const ttlMs = facts.ttlMs ?? this.#options.ttlMs ?? Number.POSITIVE_INFINITY;
    return {
      key,
      value,
      chargedBytes,
      costMs: facts.costMs,
      expiresAt: ttlMs === Number.POSITIVE_INFINITY ? ttlMs : this.#options.clock.now() + ttlMs,
      tags: facts.tags ?? [],
      slot: -1,
      leases: 0,
    };
  }

  #enter(holding: Holding<V>): void {
    this.delete(holding.key);
    const slot = this.#freeSlots.pop() ?? this.#slots.length;
    holding.slot = slot;
    this.#slots[slot] = holding;
    this.#index.set(holding.key, holding);
    for (const tag of holding.tags) {
      const tagged = this.#byTag.get(tag);
      if (tagged === undefined) this.#byTag.set(tag, new Set([holding]));
      else tagged.add(holding);
    }
    this.#evictableBytes += holding.chargedBytes;
    this.#policy.insert(slot);
    this.#counts.insertions++;
  }

  #leave(holding: Holding<V>, why: Departure): void {
    invariant(holding.slot >= 0, 'an entry left twice');
    this.#policy.leave(holding.slot, why);
    this.#index.delete(holding.key);
    for (const tag of holding.tags) {
      const tagged = this.#byTag.get(tag);
      tagged?.delete(holding);
      if (tagged?.size === 0) this.#byTag.delete(tag);
    }
    this.#slots[holding.slot] = undefined;
    this.#freeSlots.push(holding.slot);
    holding.slot = -1;
    if (holding.leases > 0) return;
    this.#evictableBytes -= holding.chargedBytes;
    void this.#free(holding, true);
  }

  #evictOne(): boolean {
    const victim = this.#policy.victim();
    const holding = this.#slots[victim];
    if (holding === undefined) return false;
    invariant(holding.leases === 0, `policy ${this.#policy.name} chose a leased entry`);
    this.#counts.evictions++;
    this.#leave(holding, 'evicted');
    return true;
  }

  /** Lets a value go that nobody can reach any more; its bytes come back when its owner is done. */
  async #free(holding: Holding<V>, charged: boolean): Promise<void> {
    const pending = this.#options.free?.(holding.value);
    const bytes = charged ? holding.chargedBytes : 0;
    if (pending === undefined) {
      if (bytes > 0) this.#budget.give(bytes, false);
      return;
    }
    this.#budget.expect(bytes);
    // A failing owner has said so elsewhere; its bytes come back all the same.
    const settled = pending.catch(() => undefined);
    this.#frees.add(settled);
    await settled;
    this.#frees.delete(settled);
    this.#budget.give(bytes, true);
  }

  #leaseOf(holding: Holding<V>): Lease<V> {
    if (holding.leases === 0 && holding.slot >= 0) this.#evictableBytes -= holding.chargedBytes;
    this.#counts.activeLeases++;
    return new HeapLease(holding, this.#onRelease);
  }

  readonly #onRelease = (holding: Holding<V>): void => {
    this.#counts.activeLeases--;
    if (holding.leases > 0) return;
    if (holding.slot < 0) {
      void this.#free(holding, holding.chargedBytes > 0);
      return;
    }
    this.#evictableBytes += holding.chargedBytes;
    this.#budget.pump();
  };

  #expire(holding: Holding<V>): void {
    this.#counts.expirations++;
    this.#leave(holding, 'removed');
  }

  #sweep(): void {
    const now = this.#options.clock.now();
    for (let i = 0; i < SWEEP_STEP && this.#slots.length > 0; i++) {
      this.#sweepAt = (this.#sweepAt + 1) % this.#slots.length;
      const holding = this.#slots[this.#sweepAt];
      if (holding !== undefined && holding.expiresAt <= now) this.#expire(holding);
    }
  }

  #closedError(): InferkvError {
    return new InferkvError('ERR_INFERKV_CLOSED', `The partition ${this.name} is closed.`, { key: this.name });
  }
}

// FNV-1a over the key's characters: keys are digests or of the operator's making, so a weak hash is enough here.
function fingerprint(key: Key): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
