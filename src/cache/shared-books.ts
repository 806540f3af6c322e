import type { Admission } from '../policies/admission.ts';
import type { PolicyContext } from '../policies/policy.ts';
import type { SlotCause, SlotDeparture, SlotFacts, SlotPolicy } from '../stores/shared-memory/slot-policy.ts';
import { CoarseClock } from './coarse-clock.ts';
import { DEPARTED, Departures, type DepartingEntries } from './departures.ts';
import { hexOf } from './entry-digest.ts';
import { openEnvelope } from './envelope.ts';
import { PolicySeat } from './policy-seat.ts';
import type { SharedPartitionOptions } from './shared-options.ts';
import type { CountedEntries } from './statistics.ts';
import { TagIndex } from './tag-index.ts';
import { Tenants, type TenantAccount } from './tenants.ts';

interface SlotExtras {
  readonly tags: readonly string[] | undefined;
  readonly account: TenantAccount | undefined;
}

/** Who hears of entries that come, from whatever thread; it may hold them, and call nothing else. */
export type Arrival = (slot: number) => void;

/**
 * What a partition knows of the entries in its shared memory, by slot: it sits where the store expects a policy, so that
 * tags, tenants, uses and departures follow every entry that comes and goes, whichever thread wrote it.
 */
export class SharedBooks implements SlotPolicy, DepartingEntries, CountedEntries {
  readonly facts: SlotFacts;
  readonly seat: PolicySeat;
  readonly admission: Admission | undefined;
  readonly tags: TagIndex = new TagIndex();
  readonly tenants: Tenants;
  readonly departures: Departures;
  readonly time: CoarseClock;
  readonly extras: (SlotExtras | undefined)[] = [];
  /** Tenants that other threads' entries brought past their quota. */
  readonly overdue: Set<TenantAccount> = new Set();
  onOverdue: (() => void) | undefined;
  readonly #options: SharedPartitionOptions<never>;
  readonly #uses: Uint32Array;
  readonly #enteredAt: Float64Array;
  readonly #here: Uint8Array;
  /** Why what leaves now leaves, where the store cannot know, and by which tag. */
  #code: number = DEPARTED.deleted;
  #tag: string | undefined;
  #evictor: PolicySeat | undefined;
  /** Bytes that room is made for. */
  neededBytes = 0;
  insertions = 0;
  entries = 0;
  /** Entries that expire some time. */
  timed = 0;
  length = 0;
  /** The slot of what came last. */
  lastArrival = -1;
  onArrival: Arrival | undefined;

  constructor(options: Omit<SharedPartitionOptions<never>, 'codec'>, facts: SlotFacts) {
    this.#options = options as SharedPartitionOptions<never>;
    this.facts = facts;
    this.time = new CoarseClock(options.clock);
    this.#uses = new Uint32Array(facts.maxEntries);
    this.#enteredAt = new Float64Array(facts.maxEntries);
    this.#here = new Uint8Array(facts.maxEntries);
    this.departures = new Departures(this.time, this);
    this.seat = this.#seatOf(facts.budgetBytes);
    this.admission = options.admission?.({ entries: () => this.entries });
    this.tenants = new Tenants(options, (quotaBytes) => this.#seatOf(Math.min(quotaBytes, facts.budgetBytes)));
  }

  chargedBytes(slot: number): number {
    return this.facts.sizeBytes(slot);
  }

  costMs(slot: number): number {
    return this.facts.costMs(slot);
  }

  enteredAt(slot: number): number {
    return this.#enteredAt[slot] as number;
  }

  extrasOf(slot: number): SlotExtras | undefined {
    return this.extras[slot];
  }

  usesOf(slot: number): number {
    return this.#uses[slot] as number;
  }

  /** Whether the slot holds an entry. */
  isHere(slot: number): boolean {
    return this.#here[slot] === 1;
  }

  /** Says why what leaves during `act` leaves; the store knows of evictions, expiry and replacement itself. */
  because(code: number, act: () => void, { tag, evictor }: { tag?: string; evictor?: PolicySeat } = {}): void {
    this.#code = code;
    this.#tag = tag;
    this.#evictor = evictor;
    try {
      act();
    } finally {
      this.#code = DEPARTED.deleted;
      this.#tag = undefined;
      this.#evictor = undefined;
    }
  }

  insert(slot: number): void {
    const { facts } = this;
    this.#uses[slot] = 0;
    this.#enteredAt[slot] = this.time.now();
    this.#here[slot] = 1;
    if (slot >= this.length) this.length = slot + 1;
    this.insertions++;
    this.lastArrival = slot;
    this.entries++;
    if (facts.expiresAt(slot) !== Number.POSITIVE_INFINITY) this.timed++;
    this.seat.insert(slot);
    const { tags, tenant } = openEnvelope(facts.metadata(slot));
    if (tags !== undefined || tenant !== undefined) this.#insertExtras(slot, tags, tenant);
    this.onArrival?.(slot);
  }

  touch(slot: number): void {
    const { watcher } = this.#options;
    const count = (this.#uses[slot] as number) + 1;
    this.#uses[slot] = count;
    if (watcher !== undefined && count === watcher.uses) watcher.reached(hexOf(this.facts.digest(slot)));
    this.seat.touch(slot);
    if (this.tenants.haveQuotas) this.extras[slot]?.account?.seat?.touch(slot);
  }

  leave(slot: number, why: SlotDeparture, cause: SlotCause): void {
    const { facts } = this;
    this.seat.leave(slot, why);
    const code = this.#codeOf(cause);
    const isForRoom = code === DEPARTED.evicted || code === DEPARTED.quota;
    const key = hexOf(facts.digest(slot));
    this.departures.depart(key, code, slot, this.#tag, isForRoom ? this.neededBytes : 0);
    this.#options.watcher?.left(key);
    this.#here[slot] = 0;
    this.entries--;
    if (facts.expiresAt(slot) !== Number.POSITIVE_INFINITY) this.timed--;
    const extras = this.extras[slot];
    if (extras === undefined) return;
    this.extras[slot] = undefined;
    if (extras.tags !== undefined) this.tags.remove(slot, extras.tags);
    if (extras.account !== undefined) this.#leaveAccount(extras.account, slot, isForRoom);
  }

  victim(): number {
    return this.seat.victim();
  }

  #codeOf(cause: SlotCause): number {
    if (cause === 'deleted') return this.#code;
    if (cause === 'outdated') return DEPARTED.expired;
    return cause === 'replaced' ? DEPARTED.replaced : DEPARTED.evicted;
  }

  #insertExtras(slot: number, tags: readonly string[] | undefined, tenant: string | undefined): void {
    const account = tenant === undefined ? undefined : this.tenants.of(tenant);
    this.extras[slot] = { tags, account };
    if (tags !== undefined) this.tags.add(slot, tags);
    if (account === undefined) return;
    account.entries++;
    account.usedBytes += this.facts.sizeBytes(slot);
    account.seat?.insert(slot);
    if (account.usedBytes <= account.quotaBytes) return;
    this.overdue.add(account);
    this.onOverdue?.();
  }

  #leaveAccount(account: TenantAccount, slot: number, isForRoom: boolean): void {
    account.seat?.leave(slot, this.#evictor === account.seat ? 'evicted' : 'removed');
    account.entries--;
    account.usedBytes -= this.facts.sizeBytes(slot);
    account.departedHits += this.usesOf(slot);
    account.departedSavedMs += this.usesOf(slot) * this.costMs(slot);
    if (isForRoom) account.evictions++;
    this.tenants.close(account);
  }

  #seatOf(budgetBytes: number): PolicySeat {
    const { policy, clock, random } = this.#options;
    const { facts } = this;
    const context: PolicyContext = {
      budgetBytes,
      sizeBytes: (slot) => facts.sizeBytes(slot),
      costMs: (slot) => facts.costMs(slot),
      identity: (slot) => facts.identity(slot),
      isPinned: (slot) => facts.isPinned(slot),
      parent: () => -1,
      now: () => clock.now(),
      random: () => random.next(),
    };
    return new PolicySeat(policy(context));
  }
}
