import { invariant } from '../base/assertions.ts';
import { formatBytes } from '../base/bytes.ts';
import { InferkvError } from '../base/errors.ts';
import type { Admission } from '../policies/admission.ts';
import { ByteBudget, type Evictor } from './byte-budget.ts';
import { CoarseClock } from './coarse-clock.ts';
import { DEPARTED, Departures, REFUSED } from './departures.ts';
import { checkSize, overheadOf } from './entry-facts.ts';
import { EntryTable, type EntryExtras } from './entry-table.ts';
import { Expiry, type ExpiringEntries } from './expiry.ts';
import type { PresentEntry } from './explanation.ts';
import { FreeQueue } from './free-queue.ts';
import type { HeapPartitionOptions } from './heap-options.ts';
import type { UseListener } from '../telemetry/use-listener.ts';
import { SampledUses } from './sampled-uses.ts';
import type { Holding } from './holding.ts';
import { identityOf, KeyIndex } from './key-index.ts';
import type { EntryFacts, Key } from './partition.ts';
import { PolicySeat, type OnTouched } from './policy-seat.ts';
import { TableContext } from './table-context.ts';
import { TagIndex } from './tag-index.ts';
import { Tenants, type TenantAccount } from './tenants.ts';

/** What `claim` says where there is room. */
export const ADMITTED = -1;

// Slots looked at for expiry on each insertion: at least as many as can come in, so the dead never pile up.
const SWEEP_STEP = 2;

const NO_EXTRAS: EntryExtras<never> = { holding: undefined, tags: undefined, account: undefined };

/**
 * The entries of a heap partition, and the one place where they come and go: index, facts, policy, budget, tags, tenants and
 * expiry agree before and after every call.
 */
export class HeapEntries<V> implements Evictor, ExpiringEntries {
  readonly index: KeyIndex;
  readonly table: EntryTable<V>;
  readonly tags: TagIndex = new TagIndex();
  readonly departures: Departures;
  readonly budget: ByteBudget;
  readonly seat: PolicySeat;
  readonly tenants: Tenants;
  readonly expiry: Expiry;
  readonly freeing: FreeQueue<V>;
  readonly time: CoarseClock;
  readonly #options: HeapPartitionOptions<V>;
  readonly #admission: Admission | undefined;
  readonly #maxEntryBytes: number;
  readonly #ttlMs: number;
  readonly #isWatched: boolean;
  readonly #listener: UseListener | undefined;
  readonly #watchedUses: number;
  readonly #sampled: SampledUses | undefined;
  isClosed = false;
  hits = 0;
  misses = 0;
  insertions = 0;
  evictableBytes = 0;
  departedSavedMs = 0;

  constructor(options: HeapPartitionOptions<V>) {
    const { budgetBytes, clock, ttlMs, maxEntryBytes } = options;
    this.#options = options;
    this.#listener = options.listener;
    this.#watchedUses = options.watcher?.uses ?? 0;
    this.#ttlMs = ttlMs ?? Number.POSITIVE_INFINITY;
    this.#maxEntryBytes = maxEntryBytes ?? Number.POSITIVE_INFINITY;
    this.time = new CoarseClock(clock);
    this.table = new EntryTable(this.time);
    this.index = new KeyIndex(this.table.rows);
    this.departures = new Departures(this.time, this.table);
    this.expiry = new Expiry(clock, this.time, this);
    this.budget = new ByteBudget(budgetBytes, this);
    this.freeing = new FreeQueue(options.free, this.budget);
    const { sampler } = options;
    this.#sampled = sampler === undefined ? undefined : new SampledUses(sampler, this.index, this.table);
    this.seat = this.#seatOf(budgetBytes, this.#sampled?.hits);
    this.#admission = options.admission?.({ entries: () => this.index.size });
    this.tenants = new Tenants(options, (quotaBytes) => this.#seatOf(Math.min(quotaBytes, budgetBytes)));
    this.#isWatched = this.#admission !== undefined || this.tenants.haveQuotas;
  }

  /** Tells whoever listens of a use of what was not here. */
  tellMiss(key: Key, chargedBytes: number, costMs: number): void {
    if (this.#sampled !== undefined) {
      this.seat.deliver();
      this.#sampled.miss(key, chargedBytes, costMs);
    }
    if (this.#listener !== undefined) this.#tell(this.#listener, key, chargedBytes, costMs, false);
  }

  /** The slot of a key, counted as a use of its entry; -1 if it does not lie here or has expired. */
  use(key: Key): number {
    const slot = this.index.find(key);
    if (this.#isWatched) this.#watch(key, slot);
    if (slot < 0) return this.#miss();
    const { at } = this.expiry;
    if (at !== undefined && (at[slot] as number) <= this.time.now()) {
      this.expire(slot);
      return this.#miss();
    }
    const { uses } = this.table;
    const count = (uses[slot] as number) + 1;
    uses[slot] = count;
    if (count === this.#watchedUses) this.#options.watcher?.reached(key);
    this.hits++;
    this.seat.touch(slot);
    const listener = this.#listener;
    if (listener !== undefined) this.#tell(listener, key, this.table.chargedBytes(slot), this.table.costMs(slot), true);
    return slot;
  }

  /**
   * Takes bytes for an entry, evicting others for it; whatever lay under its key is out of date and leaves either way.
   *
   * @returns `ADMITTED`, or a code of `REFUSED`, and then nothing was taken
   */
  claim(key: Key, { sizeBytes, costMs, tenant }: EntryFacts, chargedBytes: number): number {
    const old = this.index.hasJustMissed(key) ? -1 : this.index.find(key);
    if (old >= 0) this.leave(old, DEPARTED.replaced);
    if (this.isClosed) return REFUSED.closed;
    if (chargedBytes > this.budget.limitBytes || sizeBytes > this.#maxEntryBytes) return REFUSED['too-large'];
    this.expiry.sweep(SWEEP_STEP);
    const account = tenant === undefined ? undefined : this.tenants.of(tenant);
    if (account !== undefined && chargedBytes > account.quotaBytes) return REFUSED.quota;
    if (this.#admission !== undefined && !this.#admits(this.#admission, key, chargedBytes, costMs, account)) {
      return REFUSED.admission;
    }
    if (account?.seat !== undefined && !this.#makeRoomOf(account, account.seat, chargedBytes)) return REFUSED.quota;
    if (!this.budget.tryTake(chargedBytes)) return REFUSED.budget;
    // Freeing what was evicted may have called back and put a newer value under this key, which then stays.
    if (this.#options.free === undefined || (this.index.find(key) < 0 && !this.isClosed)) return ADMITTED;
    this.budget.give(chargedBytes, false);
    return this.isClosed ? REFUSED.closed : REFUSED.superseded;
  }

  /** Puts an entry in whose bytes are taken and whose key is not here. */
  enter(key: Key, value: V, facts: EntryFacts, chargedBytes: number): number {
    const { table } = this;
    const slot = table.take(value, facts, chargedBytes);
    this.index.add(key, slot);
    this.#sampled?.enter(slot);
    this.expiry.set(slot, facts.ttlMs ?? this.#ttlMs);
    this.evictableBytes += chargedBytes;
    this.insertions++;
    this.seat.insert(slot);
    if (facts.tags !== undefined || facts.tenant !== undefined) this.#enterExtras(slot, facts, chargedBytes);
    return slot;
  }

  /** Takes an entry out; `tag` is the one it left by, if any. */
  leave(slot: number, code: number, tag?: string): void {
    this.#leave(slot, code, undefined, tag, 0);
  }

  /** @throws InferkvError `ERR_INFERKV_FACTS_INVALID`, `ERR_INFERKV_BUDGET_EXCEEDED` for bytes that cannot be set aside */
  checkReservation(key: Key, bytes: number): void {
    checkSize(key, bytes);
    if (bytes <= this.#maxEntryBytes) return;
    throw new InferkvError(
      'ERR_INFERKV_BUDGET_EXCEEDED',
      `${formatBytes(bytes)} are needed and an entry of the partition ${this.#options.name} may take ${formatBytes(this.#maxEntryBytes)}; raise its maxEntryBytes.`,
      { key },
    );
  }

  /** Counts a refusal and notes it down. */
  refuse(key: Key, code: number, { sizeBytes, costMs, tenant }: EntryFacts, chargedBytes: number): void {
    const overheadBytes = chargedBytes - sizeBytes;
    const account = tenant === undefined ? undefined : this.tenants.of(tenant);
    const limitBytes = Math.min(
      this.budget.limitBytes,
      this.#maxEntryBytes + overheadBytes,
      account?.quotaBytes ?? Number.POSITIVE_INFINITY,
    );
    this.departures.refuse(key, code, chargedBytes, costMs, limitBytes);
    if (account === undefined) return;
    account.refusals++;
    this.tenants.close(account);
  }

  /** Corrects the bytes an entry is charged with, evicting others for it if need be. */
  recharge(slot: number, sizeBytes: number): void {
    const { table } = this;
    const chargedBytes = sizeBytes + this.#overheadOf(slot);
    const delta = chargedBytes - table.chargedBytes(slot);
    if (delta === 0) return;
    table.recharge(slot, chargedBytes);
    const { holding, account } = table.extrasOf(slot) ?? NO_EXTRAS;
    if (holding === undefined) this.evictableBytes += delta;
    else holding.chargedBytes = chargedBytes;
    if (account !== undefined) {
      account.usedBytes += delta;
      account.seat?.update(slot);
    }
    this.seat.update(slot);
    this.budget.correct(delta);
  }

  /** Evicts what the policy chooses. */
  evictOne(forBytes: number): boolean {
    return this.#evictBy(this.seat, DEPARTED.evicted, forBytes);
  }

  /** Takes an entry out whose time is over. */
  expire(slot: number): void {
    this.leave(slot, DEPARTED.expired);
  }

  /** What holds the value of an entry while it is leased. */
  holdingOf(slot: number): Holding<V> {
    const { table } = this;
    const extras = table.extrasOf(slot);
    if (extras?.holding !== undefined) return extras.holding;
    const chargedBytes = table.chargedBytes(slot);
    const holding: Holding<V> = {
      value: table.valueOf(slot),
      costMs: table.costMs(slot),
      sizeBytes: chargedBytes - this.#overheadOf(slot),
      chargedBytes,
      slot,
      leases: 0,
    };
    if (extras === undefined) table.setExtras(slot, { ...NO_EXTRAS, holding });
    else extras.holding = holding;
    this.evictableBytes -= chargedBytes;
    return holding;
  }

  /** Makes an entry evictable again that nobody leases any more. */
  unhold({ slot, chargedBytes }: Holding<V>): void {
    const extras = this.table.extrasOf(slot) as EntryExtras<V>;
    if (extras.tags === undefined && extras.account === undefined) this.table.setExtras(slot, undefined);
    else extras.holding = undefined;
    this.evictableBytes += chargedBytes;
    this.budget.pump();
  }

  /** Takes every entry out. */
  clear(code: number): void {
    for (const key of this.index.keys()) {
      const slot = this.index.find(key);
      if (slot >= 0) this.leave(slot, code);
    }
  }

  describe(key: Key, slot: number): PresentEntry {
    const { table } = this;
    const now = this.time.now();
    const { tags = [], account, holding } = table.extrasOf(slot) ?? NO_EXTRAS;
    const uses = table.usesOf(slot);
    const expiresAt = this.expiry.at?.[slot] ?? Number.POSITIVE_INFINITY;
    const chargedBytes = table.chargedBytes(slot);
    const costMs = table.costMs(slot);
    return {
      state: 'present',
      key,
      tier: 'memory',
      sizeBytes: chargedBytes - this.#overheadOf(slot),
      chargedBytes,
      costMs,
      uses,
      savedMs: uses * costMs,
      ageMs: Math.max(0, now - table.enteredAt(slot)),
      expiresInMs: expiresAt === Number.POSITIVE_INFINITY ? undefined : expiresAt - now,
      tags,
      tenant: account?.tenant,
      isLeased: holding !== undefined,
    };
  }

  #tell(listener: UseListener, key: Key, chargedBytes: number, costMs: number, isHit: boolean): void {
    const identity = identityOf(key) | 0;
    if (listener.wants(identity)) listener.used(key, identity, chargedBytes, costMs, isHit);
  }

  #enterExtras(slot: number, { tags, tenant }: EntryFacts, chargedBytes: number): void {
    const account = tenant === undefined ? undefined : this.tenants.of(tenant);
    this.table.setExtras(slot, { holding: undefined, tags, account });
    if (tags !== undefined) this.tags.add(slot, tags);
    if (account === undefined) return;
    account.entries++;
    account.usedBytes += chargedBytes;
    account.seat?.insert(slot);
  }

  #overheadOf(slot: number): number {
    const { tags, account } = this.table.extrasOf(slot) ?? NO_EXTRAS;
    return overheadOf(this.index.keyOf(slot), tags, account !== undefined);
  }

  #miss(): number {
    this.misses++;
    return -1;
  }

  #leave(slot: number, code: number, evictor: PolicySeat | undefined, tag: string | undefined, forBytes: number): void {
    const { table, index } = this;
    const { seat } = this;
    const key = index.keyOf(slot);
    seat.leave(slot, evictor === seat ? 'evicted' : 'removed');
    this.departures.depart(key, code, slot, tag, forBytes);
    this.#options.watcher?.left(key);
    const chargedBytes = table.chargedBytes(slot);
    this.departedSavedMs += table.usesOf(slot) * table.costMs(slot);
    const extras = table.extrasOf(slot);
    if (extras?.account !== undefined) this.#leaveAccount(extras.account, slot, evictor);
    if (extras?.tags !== undefined) this.tags.remove(slot, extras.tags);
    this.expiry.clear(slot);
    index.remove(slot);
    const value = table.valueOf(slot);
    table.give(slot);
    if (extras?.holding !== undefined) {
      extras.holding.slot = -1;
      return;
    }
    this.evictableBytes -= chargedBytes;
    this.freeing.free(value, chargedBytes);
  }

  #leaveAccount(account: TenantAccount, slot: number, evictor: PolicySeat | undefined): void {
    const { table } = this;
    const uses = table.usesOf(slot);
    account.seat?.leave(slot, evictor === account.seat ? 'evicted' : 'removed');
    account.entries--;
    account.usedBytes -= table.chargedBytes(slot);
    account.departedHits += uses;
    account.departedSavedMs += uses * table.costMs(slot);
    if (evictor !== undefined) account.evictions++;
    this.tenants.close(account);
  }

  #evictBy(seat: PolicySeat, code: number, forBytes: number): boolean {
    const slot = seat.victim();
    if (slot < 0) return false;
    // The message is made only where it is needed: this is called for every eviction.
    if (this.table.isHeld(slot)) invariant(false, `policy ${seat.name} chose a leased entry`);
    this.#leave(slot, code, seat, undefined, forBytes);
    return true;
  }

  /** Evicts a tenant's own entries until so many bytes are within its quota. */
  #makeRoomOf(account: TenantAccount, seat: PolicySeat, bytes: number): boolean {
    while (account.usedBytes + bytes > account.quotaBytes) {
      if (!this.#evictBy(seat, DEPARTED.quota, bytes)) return false;
    }
    return true;
  }

  /** Tells those of a request who hear of every one; a tenant's own policy, too, takes an expired entry for used. */
  #watch(key: Key, slot: number): void {
    this.#admission?.record(identityOf(key));
    if (slot >= 0) this.table.extrasOf(slot)?.account?.seat?.touch(slot);
  }

  /** Whether a newcomer may displace the first that would go for it; where nobody has to go it is not asked. */
  #admits(admission: Admission, key: Key, bytes: number, costMs: number, account: TenantAccount | undefined): boolean {
    const isPastQuota = account !== undefined && account.usedBytes + bytes > account.quotaBytes;
    if (!isPastQuota && this.budget.usedBytes + bytes <= this.budget.limitBytes) return true;
    const seat = (isPastQuota ? account.seat : undefined) ?? this.seat;
    const victim = seat.victim();
    if (victim < 0) return true;
    const { table, index } = this;
    return admission.admits(
      identityOf(key),
      bytes,
      costMs,
      identityOf(index.keyOf(victim)),
      table.chargedBytes(victim),
      table.costMs(victim),
    );
  }

  #seatOf(budgetBytes: number, onTouched?: OnTouched): PolicySeat {
    const options = this.#options;
    return new PolicySeat(options.policy(new TableContext(options, this.table, this.index, budgetBytes)), onTouched);
  }
}
