import type { DepartureReason, Explanation, RefusalReason } from './explanation.ts';

/** Names an entry: for requests the SHA-256 digest in lower-case hex (inference/request-key.ts); any string is a legal key. */
export type Key = string;

/** What is known of an entry besides its value. */
export interface EntryFacts {
  /** Bytes the value holds on to; whole. */
  readonly sizeBytes: number;
  /** Milliseconds it took to load or compute, measured. */
  readonly costMs: number;
  /** Milliseconds until it expires, never earlier and up to a few later; the partition's own time to live if left out, `Infinity` for never. */
  readonly ttlMs?: number;
  /** Labels by which it can be invalidated together with others: a model's digest, a tenant. */
  readonly tags?: readonly string[] | undefined;
  /** Whose entry it is, where tenants have quotas or are counted apart. */
  readonly tenant?: string | undefined;
}

/** A level of the stack that an entry was found in. */
export type TierName = 'memory' | 'disk' | 'remote';

/**
 * A hold on an entry: its bytes are not reused before it is released, even if the entry is evicted, expires or is
 * deleted meanwhile. Release it explicitly, or by `using`. After that the value must not be touched.
 */
export interface Lease<V> extends Disposable {
  /** The value itself, not a copy. Reading it after release throws `ERR_INFERKV_LEASE_RELEASED`. */
  readonly value: V;
  /** Milliseconds it took to load or compute the value. */
  readonly costMs: number;
  readonly sizeBytes: number;
  /** Lets go; a second call does nothing. */
  release(): void;
}

/** Memory of the partition's own in the form of a value, to be filled by a load: what it gives back need not be copied then. */
export interface Draft<V> {
  /** Holds whatever lay there before, and is the load's until it ends. */
  readonly value: V;
}

/** Makes a draft of a value whose length and form are known; `undefined` where there is no room, or where values are not kept as bytes. */
export type MakeDraft<V> = (form: {
  readonly lengthBytes: number;
  readonly metadata: Uint8Array;
}) => Draft<V> | undefined;

/** What `load` of `fetch` gives back. */
export interface Loaded<V> extends Omit<EntryFacts, 'costMs'> {
  readonly value: V;
  /** The draft that was filled, if `value` is just that. */
  readonly draft?: Draft<V> | undefined;
  /** Measured around the call of `load` if left out. */
  readonly costMs?: number;
  /** `false` serves the value to those who wait for it, and does not keep it. */
  readonly keep?: boolean;
  /** Asked in the moment in which the value would be kept: `false` if what it was made from has been invalidated meanwhile. */
  readonly isCurrent?: (() => boolean) | undefined;
  /** Where it was found, if it was not computed. */
  readonly tier?: TierName | undefined;
}

/** How `fetch` came by its value: `hit` it lay in one of the tiers, `miss` it was loaded for this caller, `joined` another caller's load served this one too. Each load is one caller's miss: the first of those who still wait. */
export type FetchStatus = 'hit' | 'miss' | 'joined';

/** What `fetch` gives. */
export interface Fetched<V> {
  /** A hold on the value, also where the partition did not keep it; the caller releases it. */
  readonly lease: Lease<V>;
  readonly status: FetchStatus;
  /** Where a hit was found; `undefined` for a miss and for a load that was joined. */
  readonly tier: TierName | undefined;
}

/** How one `fetch` is to be done. */
export interface FetchOptions {
  /** Ends this caller's wait; the load goes on while another caller waits for it. */
  readonly signal?: AbortSignal | undefined;
  /** `true` loads even if an entry lies here, and replaces it. */
  readonly refresh?: boolean;
  /** Bytes to set aside before loading; waits for room until the load's signal ends it. Without it room is made afterwards. */
  readonly reserveBytes?: number;
  /** The tags that the value will have, and whose it will be; known before it is loaded, so that the tiers can be asked for it. */
  readonly tags?: readonly string[] | undefined;
  readonly tenant?: string | undefined;
  /** What is alike in cost and size, a model, say: by it the tiers learn whether a value is fetched faster than it is computed. */
  readonly group?: string | undefined;
}

/** Counters of a partition since it was made, and what it holds now. */
export interface PartitionStats {
  readonly name: string;
  readonly entries: number;
  /** Bytes charged to the budget: entries, reservations, and what was removed but is still leased or being freed. */
  readonly usedBytes: number;
  readonly budgetBytes: number;
  readonly hits: number;
  readonly misses: number;
  readonly joined: number;
  readonly insertions: number;
  readonly evictions: number;
  readonly expirations: number;
  /** Values that were served and not kept, as they did not fit. */
  readonly refusals: number;
  readonly activeLeases: number;
  /** Milliseconds of loading or computing that hits made unnecessary. */
  readonly savedMs: number;
  /** Entries that left, by why; `evictions` are those that were `evicted` and those that left for a `quota`. */
  readonly departedBy: Readonly<Record<DepartureReason, number>>;
  /** `refusals`, by why. */
  readonly refusedBy: Readonly<Record<RefusalReason, number>>;
}

/**
 * A region for one kind of value, with its own byte budget and policy.
 *
 * Contract:
 * - The budget is hard: room is made before bytes are charged, and a value that cannot fit is served and not kept.
 * - What is leased is neither evicted nor reused; deleting or replacing it only hides it from later readers.
 * - `get` and `lease` are synchronous and count as a use; an expired entry is a miss.
 * - `fetch` runs one load for all callers that ask for one key at one time; a caller that gives up does not abort it for
 *   the others, and nobody's eviction does. A load that fails is not kept, and every caller that waited gets its error.
 */
export interface Partition<V> extends AsyncDisposable {
  readonly name: string;
  /** The value if it lies here; owned by the partition, to be read at once and not changed. */
  get(key: Key): V | undefined;
  /** A hold on the value if it lies here. */
  lease(key: Key): Lease<V> | undefined;
  /** The value, loaded by `load` if it does not lie here. */
  fetch(
    key: Key,
    load: (signal: AbortSignal, makeDraft?: MakeDraft<V>) => Promise<Loaded<V>>,
    options?: FetchOptions,
  ): Promise<Fetched<V>>;
  /**
   * Puts a value in, which belongs to the partition from then on; `false` if it was not kept.
   *
   * @throws InferkvError `ERR_INFERKV_FACTS_INVALID` for a size, cost or time to live that cannot be, before anything changes
   */
  set(key: Key, value: V, facts: EntryFacts): boolean;
  /** Takes an entry out; `false` if there was none. */
  delete(key: Key): boolean;
  /** Takes out every entry with that tag; gives their number. */
  invalidateTag(tag: string): number;
  /** What is known of a key: where its entry is, or why it is not here. Does not count as a use. */
  explain(key: Key): Explanation;
  stats(): PartitionStats;
  /** Takes everything out and waits until it is freed; leased values are freed when their leases end. */
  close(): Promise<void>;
}
