import { randomInt } from 'node:crypto';
import { threadId } from 'node:worker_threads';

import { systemClock, type Clock } from '../../base/clock.ts';
import { readDigest } from './digest.ts';
import { Entries } from './entries.ts';
import { makeHandle, memoryOf, type Memory, type SharedMemoryHandle } from './handle.ts';
import { entryUnits, HEADER, KEY_WORDS, UNIT_BYTES } from './layout.ts';
import { SharedLease } from './lease.ts';
import { checkLengths } from './lengths.ts';
import { Lookup, type LookupStep } from './lookup.ts';
import type { CommitMessage } from './messages.ts';
import { OwnerSlab } from './owner-slab.ts';
import { Pins } from './pins.ts';
import { monotonicMs } from './reader.ts';
import { planSizes, type StoreSizes } from './sizes.ts';
import type { SlotFacts, SlotPolicyFactory } from './slot-policy.ts';
import type { SharedMemoryStats } from './stats.ts';
import { ThreadTable } from './thread-table.ts';
import type { SharedEntryFacts } from './thread-slabs.ts';

/** What a store is made of. */
export interface SharedMemoryStoreOptions extends StoreSizes {
  readonly policy: SlotPolicyFactory;
  readonly clock?: Clock;
  /** A whole number below 2^31, for salts; not to be guessed by whoever can choose keys. */
  readonly seed?: () => number;
  /** Overwrites what has become free with this byte, so that reading after release shows; for debugging. */
  readonly fillByte?: number | undefined;
  /** Called in the middle of the owner's own lookups, for tests. */
  readonly onStep?: (step: LookupStep) => void;
}

/** A value that is written in place. */
export interface ValueWriter {
  readonly lengthBytes: number;
  /** Writes all of the value. It may use the store meanwhile; if it throws, nothing is kept. */
  write(into: Uint8Array<SharedArrayBuffer>): void;
}

// Records looked at for expiry on each insertion: at least as many as can come in, so the dead never pile up.
const SWEEP_STEP = 2;
const AHEAD_SHARE = 4;
const GRANTED_SHARE = 2;

/**
 * Values in memory that all threads of the process share. This is the owner's side: one thread makes the store, and alone
 * allocates, changes the index and runs the policy. The others attach by `handle()` (`reader.ts`).
 *
 * Contract: docs/shared-memory.md. The owner never waits for anybody; what other threads have asked for it does at its next
 * call, or at once while it listens.
 */
export class SharedMemoryStore implements Disposable {
  readonly #memory: Memory;
  readonly #handle: SharedMemoryHandle;
  readonly #options: SharedMemoryStoreOptions;
  readonly #clock: Clock;
  readonly #entries: Entries;
  readonly #threads: ThreadTable;
  readonly #pins: Pins;
  readonly #lookup: Lookup;
  readonly #key = new Int32Array(KEY_WORDS);
  readonly #counts = { hits: 0, misses: 0, savedMs: 0, refusals: 0 };
  #listening = false;
  #closed = false;

  private constructor(options: SharedMemoryStoreOptions) {
    const { layout, segmentCount, segmentUnits, standingUnits } = planSizes(options);
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const seed = options.seed ?? (() => randomInt(2 ** 31 - 1));
    this.#handle = makeHandle({
      layout,
      segmentCount,
      segmentUnits,
      storeId: seed(),
      salts: [seed(), seed()],
      clockShift: this.#clock.now() - monotonicMs(),
      owner: threadId,
    });
    this.#memory = memoryOf(this.#handle, layout);
    this.#entries = new Entries(
      this.#memory,
      options.budgetBytes,
      options.policy,
      () => this.#threads.hearHits(),
      options.fillByte,
    );
    const { totalUnits } = this.#entries.allocator;
    this.#threads = new ThreadTable(
      this.#memory,
      this.#entries,
      {
        standingUnits,
        aheadUnits: Math.floor(totalUnits / AHEAD_SHARE),
        totalUnits: Math.floor(totalUnits / GRANTED_SHARE),
      },
      (message, block) => this.#accept(message, block),
    );
    this.#pins = new Pins(this.#memory, layout.areasAt, () => undefined);
    this.#lookup = new Lookup(this.#memory, this.#pins, () => this.#clock.now(), options.onStep);
  }

  /**
   * A store owned by the calling thread.
   *
   * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for sizes that cannot be, `ERR_INFERKV_NO_ROOM` if the system does not
   * give that much address space
   */
  static create(options: SharedMemoryStoreOptions): SharedMemoryStore {
    return new SharedMemoryStore(options);
  }

  /** What is known of entries by slot, for whoever keeps books above this store. */
  get slots(): SlotFacts {
    return this.#entries.facts;
  }

  /** The longest value, metadata included, that can be kept. */
  get maxEntryBytes(): number {
    return this.#entries.longestUnits * UNIT_BYTES;
  }

  /** What another thread needs to attach. */
  handle(): SharedMemoryHandle {
    return this.#handle;
  }

  /** A hold on an entry, or `undefined` if it is not there. */
  lease(digest: Uint8Array): SharedLease | undefined {
    this.#threads.hear();
    const slot = this.#lookup.find(digest);
    if (slot < 0) {
      this.#counts.misses++;
      return undefined;
    }
    this.#counts.hits++;
    this.#counts.savedMs += this.#entries.facts.costMs(slot);
    this.#entries.touch(slot);
    return new SharedLease(this.#memory, this.#pins, this.#lookup.pin, slot);
  }

  /**
   * Puts a value in, in the place of what lies under that key; `false` if there is no room for it, and then nothing lies
   * under that key.
   *
   * @throws InferkvError `ERR_INFERKV_INPUT_INVALID` for lengths that cannot be
   */
  put(digest: Uint8Array, value: Uint8Array | ValueWriter, facts: SharedEntryFacts): boolean {
    const key = this.#keyOf(digest).slice();
    const metadata = facts.metadata ?? new Uint8Array(0);
    const lengthBytes = value instanceof Uint8Array ? value.length : value.lengthBytes;
    checkLengths(lengthBytes, metadata.length);
    if (this.#closed) return false;
    this.#threads.hear();
    this.sweep(SWEEP_STEP);
    const slab = this.reserve(lengthBytes, metadata.length);
    if (slab === undefined) return this.#refuse(key);
    try {
      if (value instanceof Uint8Array) slab.bytes.set(value);
      else value.write(slab.bytes);
      return slab.commit(digest, facts);
    } finally {
      slab.abandon();
    }
  }

  /** Takes an entry out; `false` if there was none. No lookup that begins afterwards finds it, in any thread. */
  delete(digest: Uint8Array): boolean {
    this.#threads.hear();
    const slot = this.#entries.find(this.#keyOf(digest));
    if (slot < 0) return false;
    this.#entries.remove(slot);
    return true;
  }

  /** Takes out the entry that lies in a slot, for whoever keeps books above this store. */
  deleteSlot(slot: number): void {
    this.#entries.remove(slot);
  }

  /** The slot of an entry, counted as a use of it; -1 if it is not there or outdated, and then it leaves. */
  use(digest: Uint8Array): number {
    const slot = this.slotOf(digest);
    if (slot < 0) {
      this.#counts.misses++;
      return slot;
    }
    this.#counts.hits++;
    this.#counts.savedMs += this.#entries.facts.costMs(slot);
    this.#entries.touch(slot);
    return slot;
  }

  /** The same, without counting as a use. */
  slotOf(digest: Uint8Array): number {
    this.#threads.hear();
    const slot = this.#entries.find(this.#keyOf(digest));
    if (slot < 0 || !this.#entries.isOutdated(slot, this.#clock.now())) return slot;
    this.#entries.expire(slot);
    return -1;
  }

  /** Keeps an entry's bytes as they are, whatever happens to it, until as many `unhold`; the owner may hold any number. */
  hold(slot: number): void {
    this.#entries.pins.hold(slot);
  }

  /** Lets go of one hold of a slot. */
  unhold(slot: number): void {
    this.#entries.pins.unhold(slot);
  }

  /** The value in a slot, or its metadata: not a copy, good as long as the entry is there or held. */
  view(slot: number, part: 'value' | 'metadata'): Uint8Array<SharedArrayBuffer> {
    return this.#entries.view(slot, part);
  }

  /** Frees what has left and is leased by nobody any more; everything that needs room does this too. */
  reclaim(): void {
    this.#entries.reclaim();
  }

  /** Whether a value would find room without anything leaving for it. */
  hasRoomFor(lengthBytes: number, metadataBytes: number): boolean {
    return this.#entries.hasRoomFor(entryUnits(lengthBytes, metadataBytes));
  }

  /**
   * Memory for a value that is not there yet, evicting for it as `put` does; `undefined` if what may go is not enough. The
   * owner's own, to be committed or abandoned.
   */
  reserve(lengthBytes: number, metadataBytes: number): OwnerSlab | undefined {
    checkLengths(lengthBytes, metadataBytes);
    if (this.#closed) return undefined;
    this.#threads.hear();
    const block = this.#entries.allocate(entryUnits(lengthBytes, metadataBytes));
    if (block < 0) return undefined;
    const epoch = this.#memory.words[HEADER.epoch] as number;
    return new OwnerSlab(this.#entries, block, lengthBytes, (written) => {
      if (this.#closed) {
        this.#entries.allocator.free(block);
        return false;
      }
      const { digest, costMs, ttlMs = Number.POSITIVE_INFINITY, lengthBytes: length, metadataBytes: more } = written;
      const key = this.#keyOf(digest).slice();
      const expiresAt = this.#clock.now() + ttlMs;
      return this.#insert({ key, block, lengthBytes: length, metadataBytes: more, costMs, epoch, expiresAt });
    });
  }

  /** Hides all entries from all threads at once, and what is being written too; `sweep` and evictions free them. */
  invalidate(): void {
    Atomics.add(this.#memory.words, HEADER.epoch, 1);
  }

  /** Takes out what expired or was invalidated among the next `slots` records. */
  sweep(slots: number): void {
    this.#entries.sweep(slots, this.#clock.now());
  }

  /** Does what other threads have asked for. Everything else does this too; it is for an owner that is idle and does not listen. */
  hear(): void {
    this.#threads.hear();
  }

  /** Does what other threads ask for as soon as this thread's loop turns, until the store is closed. Keeps no process alive. */
  listen(): void {
    if (this.#listening || this.#closed) return;
    this.#listening = true;
    void this.#listen();
  }

  /** Takes back what a thread had that has ended: leases, reserved memory. What it committed stays. */
  detach(ofThread: number): void {
    this.#threads.detach(ofThread);
  }

  /** Detaches a worker when it ends. */
  watch(worker: { readonly threadId: number; once(event: 'exit', listener: () => void): unknown }): void {
    const { threadId: ofThread } = worker;
    worker.once('exit', () => this.detach(ofThread));
  }

  stats(): SharedMemoryStats {
    this.#threads.hear();
    this.#threads.hearHits();
    this.#entries.reclaim();
    const { allocator, counts, pins } = this.#entries;
    const others = this.#threads.counts;
    return {
      entries: this.#entries.live,
      budgetBytes: this.#options.budgetBytes,
      controlBytes: this.#memory.layout.controlBytes,
      arenaBytes: allocator.totalUnits * UNIT_BYTES,
      liveBytes: this.#entries.liveBytes,
      askedBytes: this.#entries.askedBytes,
      retiredBytes: this.#entries.retiredBytes,
      grantedBytes: this.#threads.openUnits * UNIT_BYTES,
      freeBytes: allocator.freeUnits * UNIT_BYTES,
      hits: this.#counts.hits + others.hits,
      misses: this.#counts.misses + others.misses,
      unheardHits: others.unheardHits,
      savedMs: this.#counts.savedMs + others.savedMs,
      insertions: counts.insertions,
      evictions: counts.evictions,
      displacements: counts.displaced,
      expirations: counts.expirations,
      refusals: this.#counts.refusals + others.refusals,
      activeLeases: pins.pins,
      threads: this.#threads.attached,
      unreadableMessages: others.unreadableMessages,
    };
  }

  /** Takes everything out and ends the store; what is leased stays readable, and the memory goes with its last user. */
  close(): void {
    if (this.#closed) return;
    this.#threads.hear();
    this.#closed = true;
    Atomics.store(this.#memory.words, HEADER.closed, 1);
    this.#entries.clear();
    this.#threads.wakeAll();
    Atomics.add(this.#memory.words, HEADER.doorbell, 1);
    Atomics.notify(this.#memory.words, HEADER.doorbell);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #listen(): Promise<void> {
    const { words } = this.#memory;
    while (!this.#closed) {
      const rung = Atomics.load(words, HEADER.doorbell);
      this.#threads.hear();
      const next = Atomics.waitAsync(words, HEADER.doorbell, rung);
      // Rung in between: other work of this thread gets its turn all the same.
      await (next.async ? next.value : new Promise((resolve) => setImmediate(resolve)));
    }
  }

  #keyOf(digest: Uint8Array): Int32Array {
    readDigest(digest, this.#key);
    return this.#key;
  }

  #accept(message: CommitMessage, block: number): void {
    if (this.#closed) this.#entries.allocator.free(block);
    else this.#insert({ ...message, block });
  }

  #insert(entry: Parameters<Entries['insert']>[0]): boolean {
    return this.#entries.insert(entry) || this.#refuse(entry.key);
  }

  #refuse(key: Int32Array): false {
    this.#counts.refusals++;
    const old = this.#entries.find(key);
    // What it would have replaced is out of date.
    if (old >= 0) this.#entries.remove(old);
    return false;
  }
}
