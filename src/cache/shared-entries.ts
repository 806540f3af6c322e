import { invariant } from '../base/assertions.ts';
import type { InferkvError } from '../base/errors.ts';
import { UNIT_BYTES, entryUnits } from '../stores/shared-memory/layout.ts';
import type { OwnerSlab } from '../stores/shared-memory/owner-slab.ts';
import { recordsFor } from '../stores/shared-memory/sizes.ts';
import { SharedMemoryStore } from '../stores/shared-memory/store.ts';
import { DEPARTED, REFUSED } from './departures.ts';
import { hexOf } from './entry-digest.ts';
import { metadataOf } from './envelope.ts';
import type { PresentEntry } from './explanation.ts';
import type { Holding } from './holding.ts';
import type { Key } from './partition.ts';
import type { PolicySeat } from './policy-seat.ts';
import { SharedBooks } from './shared-books.ts';
import type { SharedPartitionOptions } from './shared-options.ts';
import { SharedRoom } from './shared-room.ts';
import type { TenantAccount } from './tenants.ts';
import type { EncodedValue } from './value-codec.ts';

/** A value as it is to be kept: what lies with it is sealed already. */
export interface Keepable {
  readonly digest: Uint8Array;
  readonly encoded: Pick<EncodedValue, 'lengthBytes' | 'write'>;
  /** `undefined` if it is longer than an entry may have. */
  readonly sealed: Uint8Array | undefined;
  readonly costMs: number;
  readonly ttlMs: number | undefined;
  readonly tenant: string | undefined;
}

const BYTES_AN_ENTRY = 4096;
// Looked at for expiry in the background: a step takes some ten microseconds, so a million entries are looked at within a minute.
const SWEEP_SLOTS = 16_384;
const SWEEP_PAUSE_MS = 1000;

/** The entries of a partition in shared memory, and the one place where its owner lets them come and go. */
export class SharedEntries<V> {
  readonly store: SharedMemoryStore;
  readonly books: SharedBooks;
  readonly room: SharedRoom;
  readonly #options: SharedPartitionOptions<V>;
  readonly #maxEntryBytes: number;
  readonly #holdings = new Map<number, Holding<V>>();
  #timer: { cancel(): void } | undefined;
  #settling = false;
  isClosed = false;

  constructor(options: SharedPartitionOptions<V>) {
    const { budgetBytes, clock, fillByte, maxEntries, maxThreads } = options;
    this.#options = options;
    this.#maxEntryBytes = options.maxEntryBytes ?? Number.POSITIVE_INFINITY;
    let books: SharedBooks | undefined;
    this.store = SharedMemoryStore.create({
      budgetBytes,
      maxEntries: maxEntries ?? recordsFor(budgetBytes, BYTES_AN_ENTRY),
      ...(maxThreads !== undefined && { maxThreads }),
      clock,
      fillByte,
      policy: (facts) => (books = new SharedBooks(options, facts)),
    });
    invariant(books !== undefined, 'the store asked for no policy');
    this.books = books;
    this.books.onOverdue = () => this.#settleLater();
    this.room = new SharedRoom(this.store, clock);
  }

  /** The slot of a key, counted as a use of its entry; -1 if it does not lie here or has expired. */
  use(digest: Uint8Array): number {
    const { admission } = this.books;
    admission?.record(identityOf(digest));
    return this.store.use(digest);
  }

  /**
   * Writes a value into shared memory, evicting others for it; whatever lay under its key is out of date and leaves.
   *
   * @param slab memory that was set aside for it; taken over
   * @param onRefused called where it is not kept, before the slab goes
   * @returns its slot; -1 if it was not kept, and then it is noted why
   */
  keep(value: Keepable, slab?: OwnerSlab, onRefused?: () => void): number {
    this.books.seat.assertIdle();
    const { digest, encoded, sealed, costMs, ttlMs = this.#options.ttlMs, tenant } = value;
    const { lengthBytes } = encoded;
    const chargedBytes = entryUnits(lengthBytes, sealed?.length ?? 0) * UNIT_BYTES;
    this.books.neededBytes = chargedBytes;
    const account = tenant === undefined ? undefined : this.books.tenants.of(tenant);
    try {
      const verdict = this.#verdict(value, chargedBytes, account, slab);
      if (sealed === undefined || verdict >= 0) {
        onRefused?.();
        return this.#refuse(value, verdict, chargedBytes, account);
      }
      const facts = { costMs, metadata: sealed, ...(ttlMs !== undefined && { ttlMs }) };
      if (slab?.fits(lengthBytes, sealed.length) === true) {
        encoded.write(slab.bytes.subarray(0, lengthBytes));
        this.store.sweep(2);
        if (slab.commit(digest, facts, lengthBytes)) return this.books.lastArrival;
        // Free already, and nothing has been written there yet.
        onRefused?.();
        return this.#refuse(value, REFUSED.budget, chargedBytes, account);
      }
      slab?.abandon();
      if (this.store.put(digest, encoded, facts)) return this.books.lastArrival;
      return this.#refuse(value, REFUSED.budget, chargedBytes, account);
    } finally {
      slab?.abandon();
      this.books.neededBytes = 0;
      this.room.pump();
    }
  }

  /** What holds the value of an entry while somebody in this thread leases it. */
  holdingOf(slot: number): Holding<V> {
    const known = this.#holdings.get(slot);
    if (known !== undefined) return known;
    const { facts } = this.books;
    const value = this.#options.codec.decode(
      this.store.view(slot, 'value'),
      metadataOf(this.store.view(slot, 'metadata')),
    );
    const holding: Holding<V> = {
      value,
      costMs: facts.costMs(slot),
      sizeBytes: facts.lengthBytes(slot),
      chargedBytes: facts.sizeBytes(slot),
      slot,
      leases: 0,
    };
    this.store.hold(slot);
    this.#holdings.set(slot, holding);
    return holding;
  }

  /** Ends a holding that nobody leases any more. */
  letGo({ slot, value }: Holding<V>): void {
    if (slot < 0) {
      this.#options.free?.(value);
      return;
    }
    this.#holdings.delete(slot);
    this.store.unhold(slot);
    // What has left waited for this; what is still here can be evicted now.
    if (!this.books.isHere(slot)) this.store.reclaim();
    this.room.pump();
  }

  remove(slot: number, code: number, tag?: string): void {
    this.books.because(code, () => this.store.deleteSlot(slot), tag === undefined ? {} : { tag });
    this.room.pump();
  }

  /** Has expired entries swept in the background for as long as there are such that expire. */
  sweepLater(): void {
    if (this.#timer !== undefined || this.books.timed === 0 || this.isClosed) return;
    this.#timer = this.#options.clock.after(SWEEP_PAUSE_MS, () => {
      this.#timer = undefined;
      this.store.sweep(SWEEP_SLOTS);
      this.room.pump();
      this.sweepLater();
    });
  }

  describe(key: Key, slot: number): PresentEntry {
    const { facts, extras, time } = this.books;
    const now = time.now();
    const uses = this.books.usesOf(slot);
    const costMs = facts.costMs(slot);
    const expiresAt = facts.expiresAt(slot);
    // So that it is known who leases it now.
    this.store.reclaim();
    return {
      state: 'present',
      key,
      tier: 'memory',
      sizeBytes: facts.lengthBytes(slot),
      chargedBytes: facts.sizeBytes(slot),
      costMs,
      uses,
      savedMs: uses * costMs,
      ageMs: Math.max(0, now - this.books.enteredAt(slot)),
      expiresInMs: expiresAt === Number.POSITIVE_INFINITY ? undefined : expiresAt - now,
      tags: extras[slot]?.tags ?? [],
      tenant: extras[slot]?.account?.tenant,
      isLeased: facts.isPinned(slot),
    };
  }

  /** @param error what those are told who wait for room */
  close(error: InferkvError): void {
    this.isClosed = true;
    this.#timer?.cancel();
    this.room.close(error);
    this.books.because(DEPARTED.closed, () => this.store.close());
    this.store.reclaim();
  }

  /** Evicts what brought tenants past their quotas that other threads wrote, as soon as the store is done with them. */
  #settleLater(): void {
    if (this.#settling) return;
    this.#settling = true;
    queueMicrotask(() => {
      this.#settling = false;
      for (const account of this.books.overdue) {
        this.books.overdue.delete(account);
        if (account.seat !== undefined && !this.isClosed) this.#makeRoomOf(account, account.seat, 0);
      }
    });
  }

  /** -1 if it may be kept as far as can be known before room is made for it; otherwise a code of `REFUSED`. */
  #verdict(
    value: Keepable,
    chargedBytes: number,
    account: TenantAccount | undefined,
    slab: OwnerSlab | undefined,
  ): number {
    const { digest, sealed } = value;
    const { lengthBytes } = value.encoded;
    if (this.isClosed) return REFUSED.closed;
    if (sealed === undefined || lengthBytes > this.#maxEntryBytes || chargedBytes > this.store.maxEntryBytes) {
      return REFUSED['too-large'];
    }
    if (account !== undefined && chargedBytes > account.quotaBytes) return REFUSED.quota;
    const old = this.store.slotOf(digest);
    const hasRoom =
      slab?.fits(lengthBytes, sealed.length) === true || this.store.hasRoomFor(lengthBytes, sealed.length);
    const isPastQuota = account !== undefined && account.usedBytes + chargedBytes > account.quotaBytes;
    // Where there is room, other threads find the old value until the new one is there.
    if (old >= 0 && (!hasRoom || isPastQuota)) this.remove(old, DEPARTED.replaced);
    if ((!hasRoom || isPastQuota) && !this.#admits(value, chargedBytes, isPastQuota ? account : undefined)) {
      return REFUSED.admission;
    }
    if (account?.seat !== undefined && !this.#makeRoomOf(account, account.seat, chargedBytes)) return REFUSED.quota;
    return -1;
  }

  #refuse(
    { digest, encoded, costMs }: Keepable,
    code: number,
    chargedBytes: number,
    account: TenantAccount | undefined,
  ): -1 {
    const old = this.isClosed ? -1 : this.store.slotOf(digest);
    if (old >= 0) this.remove(old, DEPARTED.replaced);
    const limitBytes = Math.min(
      this.store.maxEntryBytes,
      this.#maxEntryBytes + chargedBytes - encoded.lengthBytes,
      account?.quotaBytes ?? Number.POSITIVE_INFINITY,
    );
    this.books.departures.refuse(hexOf(digest), code, chargedBytes, costMs, limitBytes);
    if (account !== undefined) {
      account.refusals++;
      this.books.tenants.close(account);
    }
    return -1;
  }

  #admits({ digest, costMs }: Keepable, bytes: number, pastQuota: TenantAccount | undefined): boolean {
    const { admission, facts } = this.books;
    if (admission === undefined) return true;
    const victim = (pastQuota?.seat ?? this.books.seat).victim();
    if (victim < 0) return true;
    return admission.admits(
      identityOf(digest),
      bytes,
      costMs,
      facts.identity(victim),
      facts.sizeBytes(victim),
      facts.costMs(victim),
    );
  }

  /** Evicts a tenant's own entries until so many bytes are within its quota. */
  #makeRoomOf(account: TenantAccount, seat: PolicySeat, bytes: number): boolean {
    while (account.usedBytes + bytes > account.quotaBytes) {
      this.store.reclaim();
      const slot = seat.victim();
      if (slot < 0) return false;
      this.books.because(DEPARTED.quota, () => this.store.deleteSlot(slot), { evictor: seat });
    }
    return true;
  }
}

/** What policies know an entry by, as the store tells it: the first word of its key. */
function identityOf(digest: Uint8Array): number {
  return new DataView(digest.buffer, digest.byteOffset).getUint32(0, true);
}
