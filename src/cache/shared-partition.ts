import { MessageChannel } from 'node:worker_threads';

import type { Clock } from '../base/clock.ts';
import { InferkvError } from '../base/errors.ts';
import { Arrivals } from './arrivals.ts';
import { DEPARTED } from './departures.ts';
import { digestOfKey, hexOf } from './entry-digest.ts';
import { checkFacts, checkLimits, checkSize } from './entry-facts.ts';
import { sealEnvelope } from './envelope.ts';
import type { Explanation } from './explanation.ts';
import { identityOf } from './key-index.ts';
import { HeapLease, type Holding } from './holding.ts';
import type {
  EntryFacts,
  Fetched,
  FetchOptions,
  MakeDraft,
  Key,
  Lease,
  Loaded,
  Partition,
  PartitionStats,
  TierName,
} from './partition.ts';
import type { Share } from './share.ts';
import { LoadDrafts, SharedDraft } from './shared-draft.ts';
import { SharedEntries, type Keepable } from './shared-entries.ts';
import { SharedFlights, type Loader } from './shared-flights.ts';
import type { CopiedValue, LoadedCopy, SharedPartitionHandle } from './shared-messages.ts';
import type { SharedPartitionOptions } from './shared-options.ts';
import type { OwnerSlab } from '../stores/shared-memory/owner-slab.ts';
import type { Landing } from './single-flight.ts';
import { departureStats, tagStats, tenantStats, type TagStats } from './statistics.ts';
import type { TenantStats } from './tenants.ts';
import type { EncodedValue } from './value-codec.ts';
import { ThreadConnection, type ConnectedPartition, type Expected } from './thread-connection.ts';

/**
 * A partition whose values lie in shared memory, where every thread finds and leases them without asking this one
 * (docs/shared-memory.md). This is the side of the thread that made it.
 *
 * What is kept is what the codec wrote: a lease shows views of that memory, the value that was put in is dropped. Sizes are
 * therefore what values take there; those that callers state are checked and otherwise not needed. `budgetBytes` of `stats()` is
 * what entries can lie in: the budget without records, index and the areas of threads.
 */
export class SharedPartition<V> implements Partition<V>, ConnectedPartition<V> {
  readonly name: string;
  readonly #clock: Clock;
  readonly #options: SharedPartitionOptions<V>;
  readonly #entries: SharedEntries<V>;
  readonly #flights = new SharedFlights<Share<V>>();
  readonly #arrivals: Arrivals;
  readonly #copies = new WeakMap<Holding<V>, CopiedValue>();
  #joined = 0;
  #activeLeases = 0;

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for a budget, size or time that cannot be */
  constructor(options: SharedPartitionOptions<V>) {
    checkLimits(options);
    this.name = options.name;
    this.#clock = options.clock;
    this.#options = options;
    this.#entries = new SharedEntries(options);
    this.#arrivals = new Arrivals(this.#entries.store, this.#entries.books);
  }

  get(key: Key): V | undefined {
    const slot = this.#entries.use(digestOfKey(key));
    if (slot < 0) return undefined;
    const holding = this.#entries.holdingOf(slot);
    this.#tell(key, holding, true);
    // In this thread nothing of it is used again before the next call.
    if (holding.leases === 0) this.#entries.letGo(holding);
    return holding.value;
  }

  lease(key: Key): Lease<V> | undefined {
    const slot = this.#entries.use(digestOfKey(key));
    if (slot < 0) return undefined;
    const holding = this.#entries.holdingOf(slot);
    this.#tell(key, holding, true);
    return this.#leaseOf(holding);
  }

  /** As `lease`, without counting as a use. */
  hold(key: Key): Lease<V> | undefined {
    const slot = this.#entries.store.slotOf(digestOfKey(key));
    return slot < 0 ? undefined : this.#leaseOf(this.#entries.holdingOf(slot));
  }

  async fetch(
    key: Key,
    load: (signal: AbortSignal, makeDraft?: MakeDraft<V>) => Promise<Loaded<V>>,
    options: FetchOptions = {},
  ): Promise<Fetched<V>> {
    const { signal, reserveBytes } = options;
    const share = await this.share(
      digestOfKey(key),
      { signal, load: (stop) => this.#load(key, load, reserveBytes, stop) },
      options.refresh === true,
      true,
    );
    const { holding, status, tier } = share;
    const lease = this.#leaseOf(holding);
    this.#tell(key, holding, status === 'hit');
    this.unshare(share);
    return { lease, status, tier };
  }

  set(key: Key, value: V, facts: EntryFacts): boolean {
    checkFacts(key, facts);
    const slot = this.#entries.keep(this.#keepable(key, value, facts));
    this.#entries.sweepLater();
    if (slot < 0) this.#options.free?.(value);
    return slot >= 0;
  }

  delete(key: Key): boolean {
    this.#entries.books.seat.assertIdle();
    const slot = this.#entries.store.slotOf(digestOfKey(key));
    if (slot < 0) return false;
    this.#entries.remove(slot, DEPARTED.deleted);
    return true;
  }

  invalidateTag(tag: string): number {
    const { books, store } = this.#entries;
    books.seat.assertIdle();
    // What other threads have committed by now is meant too.
    store.hear();
    const slots = books.tags.slotsOf(tag);
    for (const slot of slots) this.#entries.remove(slot, DEPARTED.invalidated, tag);
    return slots.length;
  }

  explain(key: Key): Explanation {
    const { books, store } = this.#entries;
    const digest = digestOfKey(key);
    const hex = hexOf(digest);
    const slot = store.slotOf(digest);
    if (slot >= 0) return this.#entries.describe(key, slot);
    if (this.#flights.isUnderWay(hex)) return { state: 'loading', key };
    const found = books.departures.find(hex, books.seat.name);
    return found === undefined ? { state: 'unknown', key, remembered: books.departures.length } : { ...found, key };
  }

  stats(): PartitionStats {
    const { books, store } = this.#entries;
    const { entries, arenaBytes, freeBytes, hits, misses, savedMs, activeLeases } = store.stats();
    return {
      name: this.name,
      entries,
      usedBytes: arenaBytes - freeBytes,
      budgetBytes: arenaBytes,
      hits,
      misses,
      joined: this.#joined,
      insertions: books.insertions,
      activeLeases: activeLeases + this.#activeLeases,
      savedMs,
      ...departureStats(books.departures),
    };
  }

  tenantStats(limit?: number): readonly TenantStats[] {
    return tenantStats(this.#entries.books.tenants, this.#entries.books, limit);
  }

  tagStats(limit?: number): readonly TagStats[] {
    return tagStats(this.#entries.books.tags, this.#entries.books, limit);
  }

  /**
   * What one more thread needs to attach (`AttachedPartition`): goes to a worker as `workerData` or in a message, with its
   * `port` in the `transferList`. What the thread has comes back when it ends, however it does.
   */
  handle(): SharedPartitionHandle {
    const { port1, port2 } = new MessageChannel();
    // The port keeps the connection.
    void new ThreadConnection(this, port1);
    this.#entries.store.listen();
    const { ttlMs, maxEntryBytes } = this.#options;
    const memory = this.#entries.store.handle();
    return { kind: 'inferkv/shared-partition', name: this.name, memory, port: port2, ttlMs, maxEntryBytes };
  }

  async close(): Promise<void> {
    if (!this.#entries.isClosed) this.#entries.close(this.#closedError());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @internal A hold on a value, loaded by the first of all threads' loaders if it does not lie here; to be given to `unshare`. */
  async share(digest: Uint8Array, loader: Loader<Share<V>>, isRefresh: boolean, isCounted = false): Promise<Share<V>> {
    if (this.#entries.isClosed) throw this.#closedError();
    const hex = hexOf(digest);
    if (!isRefresh) {
      // Another thread has counted this as its miss already.
      const slot = isCounted ? this.#entries.use(digest) : this.#entries.store.slotOf(digest);
      if (slot >= 0) {
        const holding = this.#entries.holdingOf(slot);
        holding.leases++;
        return { holding, status: 'hit', tier: 'memory' };
      }
      const joined = this.#flights.join(hex, loader);
      if (joined !== undefined) this.#joined++;
      if (joined !== undefined) return joined;
    }
    return this.#flights.start(hex, loader);
  }

  /** @internal Lets go of a hold. */
  unshare({ holding }: Share<V>): void {
    holding.leases--;
    if (holding.leases === 0) this.#entries.letGo(holding);
  }

  /** @internal */
  expect(digest: Uint8Array): Expected<V> {
    const awaited = this.#arrivals.expect(hexOf(digest));
    return {
      land: () => {
        this.#entries.store.hear();
        if (awaited.slot < 0) return undefined;
        this.#entries.sweepLater();
        const holding = this.#entries.holdingOf(awaited.slot);
        // Others may lease it and let it go before the waiters get their shares.
        holding.leases++;
        const landing = this.#landing(holding);
        return {
          share: () => landing.share(),
          done: () => {
            holding.leases--;
            landing.done();
          },
        };
      },
      drop: () => this.#arrivals.drop(awaited),
    };
  }

  /** @internal */
  landCopy(digest: Uint8Array, copy: LoadedCopy): Landing<Share<V>> {
    const { bytes, metadata, costMs, keep, sealed, ttlMs, tenant } = copy;
    const encoded = { lengthBytes: bytes.length, write: (into: Uint8Array) => into.set(bytes) };
    const slot = keep ? this.#entries.keep({ digest, encoded, sealed, costMs, ttlMs, tenant }) : -1;
    this.#entries.sweepLater();
    if (slot >= 0) return this.#landing(this.#entries.holdingOf(slot));
    const value = this.#options.codec.decode(bytes, metadata);
    const holding = { value, costMs, sizeBytes: bytes.length, chargedBytes: 0, slot, leases: 0 };
    this.#copies.set(holding, { bytes, metadata, costMs });
    return this.#landing(holding);
  }

  /** @internal */
  copyOf(holding: Holding<V>): CopiedValue {
    const known = this.#copies.get(holding);
    if (known !== undefined) return known;
    const encoded = this.#options.codec.encode(holding.value);
    const bytes = new Uint8Array(new SharedArrayBuffer(encoded.lengthBytes));
    encoded.write(bytes);
    const copy = { bytes, metadata: encoded.metadata, costMs: holding.costMs };
    this.#copies.set(holding, copy);
    return copy;
  }

  /** @internal */
  detach(ofThread: number): void {
    this.#entries.store.detach(ofThread);
    this.#entries.room.pump();
  }

  #keepable(key: Key, value: V, { costMs, ttlMs, tags, tenant }: EntryFacts): Keepable {
    const encoded = this.#options.codec.encode(value);
    const sealed = sealEnvelope({ tags, tenant, metadata: encoded.metadata });
    return { digest: digestOfKey(key), encoded, sealed, costMs, ttlMs, tenant };
  }

  async #load(
    key: Key,
    load: (signal: AbortSignal, makeDraft?: MakeDraft<V>) => Promise<Loaded<V>>,
    reserveBytes: number | undefined,
    signal: AbortSignal,
  ): Promise<() => Landing<Share<V>>> {
    if (reserveBytes !== undefined) checkSize(key, reserveBytes);
    const slab = reserveBytes === undefined ? undefined : await this.#entries.room.take(reserveBytes, signal);
    const start = this.#clock.now();
    let loaded: Loaded<V> | undefined;
    let facts: EntryFacts;
    const drafts = new LoadDrafts<V>((form) => this.#draft(form));
    try {
      loaded = await load(signal, drafts.make);
      facts = { ...loaded, costMs: loaded.costMs ?? this.#clock.now() - start };
      checkFacts(key, facts);
    } catch (error) {
      slab?.abandon();
      drafts.end();
      this.#entries.room.pump();
      if (loaded !== undefined) this.#options.free?.(loaded.value);
      throw error;
    }
    const { value, keep = true, isCurrent, tier } = loaded;
    const draft = drafts.end(loaded.draft);
    return () => {
      const isKept = keep && isCurrent?.() !== false;
      try {
        if (draft === undefined) return this.#landing(this.#land(key, value, isKept, facts, slab), tier);
        slab?.abandon();
        return this.#landing(this.#landDraft(key, draft, isKept, facts), tier);
      } finally {
        // Where the codec fails, they are nobody's.
        slab?.abandon();
        draft?.slab.abandon();
      }
    };
  }

  #draft(form: Pick<EncodedValue, 'lengthBytes' | 'metadata'>): SharedDraft<V> | undefined {
    const { maxEntryBytes = Number.POSITIVE_INFINITY } = this.#options;
    if (form.lengthBytes > maxEntryBytes) return undefined;
    return SharedDraft.make(this.#entries.store, this.#options.codec, form);
  }

  /** Takes in what a load wrote into the arena itself. */
  #landDraft(key: Key, draft: SharedDraft<V>, keep: boolean, facts: EntryFacts): Holding<V> {
    const { slab, metadata } = draft;
    const { tags, tenant, costMs, ttlMs } = facts;
    const sealed = sealEnvelope({ tags, tenant, metadata });
    const lengthBytes = slab.bytes.length;
    if (keep && sealed !== undefined && slab.fits(lengthBytes, sealed.length)) {
      let copied: V | undefined;
      // Where it cannot stay it leaves before its memory does.
      const leave = (): void => void (copied = draft.copy().value);
      const keepable = { digest: digestOfKey(key), sealed, costMs, ttlMs, tenant };
      const slot = this.#entries.keep({ ...keepable, encoded: { lengthBytes, write: () => undefined } }, slab, leave);
      this.#entries.sweepLater();
      if (slot >= 0) return this.#entries.holdingOf(slot);
      return { value: copied as V, costMs, sizeBytes: lengthBytes, chargedBytes: 0, slot: -1, leases: 0 };
    }
    const { value } = draft.copy();
    slab.abandon();
    return this.#land(key, value, keep, facts, undefined);
  }

  /** Takes in what was loaded: kept if it fits, otherwise alive as long as its leases. */
  #land(key: Key, value: V, keep: boolean, facts: EntryFacts, slab: OwnerSlab | undefined): Holding<V> {
    const slot = keep ? this.#entries.keep(this.#keepable(key, value, facts), slab) : -1;
    if (!keep) slab?.abandon();
    this.#entries.sweepLater();
    if (slot >= 0) return this.#entries.holdingOf(slot);
    const { costMs, sizeBytes } = facts;
    return { value, costMs, sizeBytes, chargedBytes: 0, slot, leases: 0 };
  }

  #landing(holding: Holding<V>, tier?: TierName): Landing<Share<V>> {
    let came: Omit<Share<V>, 'holding'> = { status: tier === undefined ? 'miss' : 'hit', tier };
    return {
      share: () => {
        holding.leases++;
        const shared: Share<V> = { holding, ...came };
        // The first waiter is the one that started the load, if it is still there.
        came = { status: 'joined', tier: undefined };
        return shared;
      },
      done: () => {
        if (holding.leases === 0) this.#entries.letGo(holding);
      },
    };
  }

  /** Tells whoever listens of a use by this thread. */
  #tell(key: Key, { chargedBytes, costMs }: Holding<V>, isHit: boolean): void {
    const { listener } = this.#options;
    if (listener === undefined) return;
    const identity = identityOf(key) | 0;
    if (listener.wants(identity)) listener.used(key, identity, chargedBytes, costMs, isHit);
  }

  #leaseOf(holding: Holding<V>): Lease<V> {
    this.#activeLeases++;
    return new HeapLease(holding, this.#onRelease);
  }

  readonly #onRelease = (holding: Holding<V>): void => {
    this.#activeLeases--;
    if (holding.leases === 0) this.#entries.letGo(holding);
  };

  #closedError(): InferkvError {
    return new InferkvError('ERR_INFERKV_CLOSED', `The partition ${this.name} is closed.`, { key: this.name });
  }
}
