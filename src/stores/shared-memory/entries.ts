import { invariant } from '../../base/assertions.ts';
import { BlockAllocator } from './block-allocator.ts';
import { writeDigest } from './digest.ts';
import type { Memory } from './handle.ts';
import { IndexTable } from './index-table.ts';
import {
  HEADER,
  inPhase,
  nextLiveState,
  PHASE,
  RECORD,
  UNIT_BYTES,
  entryBytes,
  metadataAt,
  SEGMENT_HEADER_UNITS,
} from './layout.ts';
import { view } from './lease.ts';
import { PinScan } from './pins.ts';
import type { SlotCause, SlotFacts, SlotPolicy, SlotPolicyFactory } from './slot-policy.ts';

const NONE = -1;
// Retired entries that may gather before somebody looks whether they can be freed.
const RETIRED_BATCH = 32;

/** An entry as it goes in; its bytes lie in a block of the arena already. */
export interface Incoming {
  readonly key: Int32Array;
  readonly block: number;
  readonly lengthBytes: number;
  readonly metadataBytes: number;
  readonly costMs: number;
  readonly epoch: number;
  readonly expiresAt: number;
}

/**
 * The owner's books: which block belongs to which entry, the index, what is on its way out, and how room is made.
 *
 * ```
 *   free --insert--> live --retire--> retired --no pin is set--> free        of a record, and with it of its block
 * ```
 */
export class Entries {
  readonly allocator: BlockAllocator;
  readonly pins: PinScan;
  readonly facts: SlotFacts;
  /** Holder of blocks that are no entry's: granted to a thread, or being written. */
  readonly reserved: number;
  /** The longest block there can be. */
  readonly longestUnits: number;
  readonly counts = { insertions: 0, evictions: 0, displaced: 0, expirations: 0 };
  readonly #memory: Memory;
  readonly #index: IndexTable;
  readonly #policy: SlotPolicy;
  readonly #hearHits: () => void;
  readonly #fillByte: number | undefined;
  readonly #blockOf: Int32Array;
  readonly #freeSlots: Int32Array;
  #freeSlotCount: number;
  #retired: number[] = [];
  #retiredLimit = RETIRED_BATCH;
  #retiredUnits = 0;
  #liveUnits = 0;
  #askedBytes = 0;
  #live = 0;
  #sweptTo = 0;
  #top = 0;

  /**
   * @param hearHits tells the policy of other threads' hits, before it chooses
   * @param fillByte overwrites what has become free, for debugging
   */
  constructor(
    memory: Memory,
    budgetBytes: number,
    policy: SlotPolicyFactory,
    hearHits: () => void,
    fillByte: number | undefined,
  ) {
    const { maxEntries } = memory.layout;
    this.#memory = memory;
    this.#hearHits = hearHits;
    this.#fillByte = fillByte;
    this.#index = new IndexTable(memory);
    this.pins = new PinScan(memory);
    this.allocator = new BlockAllocator(
      memory.segments.map(({ byteLength }) => byteLength / UNIT_BYTES),
      SEGMENT_HEADER_UNITS,
    );
    this.reserved = maxEntries;
    this.longestUnits = (memory.segments[0]?.byteLength ?? 0) / UNIT_BYTES - SEGMENT_HEADER_UNITS;
    this.#blockOf = new Int32Array(maxEntries);
    this.#freeSlots = Int32Array.from({ length: maxEntries }, (_, i) => maxEntries - 1 - i);
    this.#freeSlotCount = maxEntries;
    this.facts = this.#factsOf(budgetBytes);
    this.#policy = policy(this.facts);
  }

  get live(): number {
    return this.#live;
  }

  /** Entries that left and are still leased, or not yet looked at. */
  get retired(): number {
    return this.#retired.length;
  }

  get liveBytes(): number {
    return this.#liveUnits * UNIT_BYTES;
  }

  get retiredBytes(): number {
    return this.#retiredUnits * UNIT_BYTES;
  }

  /** Bytes of live entries as they were asked for. */
  get askedBytes(): number {
    return this.#askedBytes;
  }

  find(key: Int32Array): number {
    return this.#index.find(key);
  }

  isLive(slot: number): boolean {
    return (this.#word(slot, RECORD.state) & PHASE.mask) === PHASE.live;
  }

  /** The state word of a slot's record. */
  state(slot: number): number {
    return this.#word(slot, RECORD.state);
  }

  touch(slot: number): void {
    this.#policy.touch(slot);
  }

  /** Puts an entry in, in the place of one with the same key; `false`, its block freed, if no record is left for it. */
  insert(entry: Incoming): boolean {
    const slot = this.#takeSlot();
    if (slot === NONE) {
      this.allocator.free(entry.block);
      return false;
    }
    this.allocator.hold(entry.block, slot);
    this.#blockOf[slot] = entry.block;
    const old = this.#index.find(entry.key);
    this.#fill(slot, entry);
    if (old === NONE) this.#index.insert(slot);
    else {
      // In this order no lookup finds neither of them.
      this.#index.replace(old, slot);
      this.#retire(old, 'replaced');
      this.#toRetired(old);
    }
    this.#live++;
    this.#liveUnits += this.allocator.units(entry.block);
    this.#askedBytes += entryBytes(entry.lengthBytes, entry.metadataBytes);
    this.#policy.insert(slot);
    this.counts.insertions++;
    return true;
  }

  /** Takes an entry out: no lookup that begins after this finds it. */
  remove(slot: number, cause: SlotCause = 'deleted'): void {
    this.#retire(slot, cause);
    this.#index.remove(slot);
    this.#toRetired(slot);
  }

  /** Takes every entry out. */
  clear(): void {
    for (let slot = 0; slot < this.#top; slot++) if (this.isLive(slot)) this.remove(slot);
  }

  /** Frees what left and is pinned by nobody any more. */
  reclaim(): void {
    this.pins.refresh();
    const still: number[] = [];
    for (const slot of this.#retired) {
      if (this.pins.isPinned(slot)) still.push(slot);
      else {
        this.#retiredUnits -= this.allocator.units(this.#blockOf[slot] as number);
        this.#freeSlot(slot);
      }
    }
    this.#retired = still;
    // What is still pinned is looked at again only when as much has come to it.
    this.#retiredLimit = RETIRED_BATCH + 2 * still.length;
  }

  /** A block of so many units for a writer, evicting for it; -1 if what may go is not enough. */
  allocate(units: number): number {
    if (units > this.longestUnits) return NONE;
    let block = this.allocator.allocate(units, this.reserved);
    if (block !== NONE) return block;
    this.reclaim();
    block = this.allocator.allocate(units, this.reserved);
    if (block !== NONE) return block;
    if (!this.#canMakeRoom(units)) return NONE;
    this.#hearHits();
    while (block === NONE) {
      const hole = this.#evictNext();
      if (hole === undefined) return NONE;
      block = this.allocator.allocate(units, this.reserved);
      if (block === NONE && this.allocator.freeUnits >= units) block = this.#allocateByNeighbours(units, hole);
    }
    return block;
  }

  /** Takes out what expired or is of an earlier epoch among the next `slots` records. */
  sweep(slots: number, now: number): void {
    // Records at and above the top never held an entry.
    for (let left = Math.min(slots, this.#top); left > 0; left--) {
      const slot = this.#sweptTo < this.#top ? this.#sweptTo : 0;
      this.#sweptTo = slot + 1;
      if (this.isLive(slot) && this.isOutdated(slot, now)) this.expire(slot);
    }
  }

  /** Whether no lookup finds the entry in a slot any more: it has expired, or is of an earlier epoch. */
  isOutdated(slot: number, now: number): boolean {
    const { words, doubles, layout } = this.#memory;
    const record = layout.recordsAt + slot * RECORD.words;
    const age = ((words[record + RECORD.epoch] as number) - (words[HEADER.epoch] as number)) | 0;
    return age < 0 || (doubles[(record + RECORD.expiresAt) >> 1] as number) <= now;
  }

  /** Takes out an entry that is outdated. */
  expire(slot: number): void {
    this.counts.expirations++;
    this.remove(slot, 'outdated');
  }

  /** Whether a block of so many units is free as it is; what was looked at for it is then up to date. */
  hasRoomFor(units: number): boolean {
    this.reclaim();
    const longest = this.allocator.longest();
    return this.#freeSlotCount > 0 && longest !== NONE && this.allocator.units(longest) >= units;
  }

  /** The memory of a block. */
  bytesOf(block: number, lengthBytes: number): Uint8Array<SharedArrayBuffer> {
    const segment = this.#memory.segments[this.allocator.segment(block)] as SharedArrayBuffer;
    return new Uint8Array(segment, this.allocator.start(block) * UNIT_BYTES, lengthBytes);
  }

  /** The value in a slot, or the metadata behind it; for the owner, while the entry is there or held. */
  view(slot: number, part: 'value' | 'metadata'): Uint8Array<SharedArrayBuffer> {
    const record = this.#memory.layout.recordsAt + slot * RECORD.words;
    const lengthBytes = this.#word(slot, RECORD.lengthBytes) >>> 0;
    if (part === 'value') return view(this.#memory, record, 0, lengthBytes);
    return view(this.#memory, record, metadataAt(lengthBytes), this.#word(slot, RECORD.place) >>> 16);
  }

  #takeSlot(): number {
    if (this.#freeSlotCount === 0) {
      this.reclaim();
      if (this.#freeSlotCount === 0) this.#hearHits();
      while (this.#freeSlotCount === 0) if (this.#evictNext() === undefined) return NONE;
    }
    const slot = this.#freeSlots[--this.#freeSlotCount] as number;
    if (slot >= this.#top) this.#top = slot + 1;
    return slot;
  }

  #fill(slot: number, { key, block, lengthBytes, metadataBytes, costMs, epoch, expiresAt }: Incoming): void {
    const { words, doubles, floats, layout } = this.#memory;
    const record = layout.recordsAt + slot * RECORD.words;
    words[record + RECORD.place] = this.allocator.segment(block) | (metadataBytes << 16);
    words[record + RECORD.offset] = this.allocator.start(block);
    words[record + RECORD.lengthBytes] = lengthBytes;
    words[record + RECORD.epoch] = epoch;
    floats[record + RECORD.costMs] = costMs;
    doubles[(record + RECORD.expiresAt) >> 1] = expiresAt;
    words.set(key, record + RECORD.key);
    Atomics.store(words, record + RECORD.state, nextLiveState(words[record + RECORD.state] as number));
  }

  /** Hides the record and tells the policy. Whoever pins it from now on sees that it is not live. */
  #retire(slot: number, cause: SlotCause): void {
    invariant(this.isLive(slot), `slot ${slot} left twice`);
    const { words, layout } = this.#memory;
    const record = layout.recordsAt + slot * RECORD.words;
    this.#policy.leave(slot, cause === 'evicted' ? 'evicted' : 'removed', cause);
    Atomics.store(words, record + RECORD.state, inPhase(words[record + RECORD.state] as number, PHASE.retired));
    this.#live--;
    this.#liveUnits -= this.allocator.units(this.#blockOf[slot] as number);
    this.#askedBytes -= entryBytes(this.#word(slot, RECORD.lengthBytes) >>> 0, this.#word(slot, RECORD.place) >>> 16);
  }

  #toRetired(slot: number): void {
    this.#retired.push(slot);
    this.#retiredUnits += this.allocator.units(this.#blockOf[slot] as number);
    if (this.#retired.length >= this.#retiredLimit) this.reclaim();
  }

  /** Makes a retired record and its block free; gives the free block it is part of. */
  #freeSlot(slot: number): number {
    const { words, layout } = this.#memory;
    const record = layout.recordsAt + slot * RECORD.words;
    Atomics.store(words, record + RECORD.state, inPhase(words[record + RECORD.state] as number, PHASE.free));
    this.#freeSlots[this.#freeSlotCount++] = slot;
    const block = this.#blockOf[slot] as number;
    if (this.#fillByte !== undefined)
      this.bytesOf(block, this.allocator.units(block) * UNIT_BYTES).fill(this.#fillByte);
    return this.allocator.free(block);
  }

  /** Evicts the policy's next victim: the hole it leaves, -1 if it was leased in this very moment, nothing if there is none. */
  #evictNext(): number | undefined {
    const victim = this.#policy.victim();
    if (victim === NONE) return undefined;
    invariant(!this.pins.isPinned(victim), `the policy chose slot ${victim}, which is leased`);
    return this.#evict(victim);
  }

  #evict(slot: number): number {
    this.counts.evictions++;
    this.#retire(slot, 'evicted');
    this.#index.remove(slot);
    // Between the last look and the retirement a thread may have pinned it: only a look from now on can tell.
    this.pins.refresh();
    if (!this.pins.isPinned(slot)) return this.#freeSlot(slot);
    this.#toRetired(slot);
    return NONE;
  }

  /**
   * The free bytes would do but lie apart, so entries beside a free block go until it is long enough: first beside the
   * longest there is, then beside what the policy's last victim left. So never more than the request lies idle in pieces.
   */
  #allocateByNeighbours(units: number, hole: number): number {
    // The first may have come to an end at a leased neighbour, and may have swallowed the second.
    const widened =
      this.#widen(this.allocator.longest(), units) ||
      (hole !== NONE && this.allocator.isFree(hole) && this.#widen(hole, units));
    return widened ? this.allocator.allocate(units, this.reserved) : NONE;
  }

  #widen(from: number, units: number): boolean {
    let hole = from;
    while (hole !== NONE && this.allocator.units(hole) < units) {
      const neighbour = this.#smallerNeighbour(hole);
      if (neighbour === NONE) return false;
      this.counts.displaced++;
      hole = this.#evict(this.allocator.holder(neighbour));
    }
    return hole !== NONE;
  }

  #smallerNeighbour(hole: number): number {
    const { allocator } = this;
    const before = allocator.before(hole);
    const after = allocator.after(hole);
    const first = before !== NONE && this.#mayGo(before) ? before : NONE;
    if (after === NONE || !this.#mayGo(after)) return first;
    return first !== NONE && allocator.units(first) < allocator.units(after) ? first : after;
  }

  #mayGo(block: number): boolean {
    const slot = this.allocator.holder(block);
    return slot !== this.reserved && this.isLive(slot) && !this.pins.isPinned(slot);
  }

  /** Whether so many units in one run would be free if everything left that may. */
  #canMakeRoom(units: number): boolean {
    const { allocator } = this;
    const leased = this.pins.pinned().filter((slot) => this.isLive(slot));
    const leasedUnits = leased.reduce((sum, slot) => sum + allocator.units(this.#blockOf[slot] as number), 0);
    const possible = allocator.freeUnits + this.#liveUnits - leasedUnits;
    const staying = allocator.usedBlocks - this.#live + leased.length;
    // What stays cuts the rest into so many runs at most, and the longest of them is no shorter than their average.
    if (possible >= units * (staying + allocator.segments)) return true;
    return possible >= units && allocator.longestRun((block) => this.#mayGo(block)) >= units;
  }

  #word(slot: number, field: number): number {
    return this.#memory.words[this.#memory.layout.recordsAt + slot * RECORD.words + field] as number;
  }

  #factsOf(budgetBytes: number): SlotFacts {
    const { words, floats, doubles, layout } = this.#memory;
    const record = (slot: number): number => layout.recordsAt + slot * RECORD.words;
    return {
      budgetBytes,
      maxEntries: layout.maxEntries,
      sizeBytes: (slot) => this.allocator.units(this.#blockOf[slot] as number) * UNIT_BYTES,
      lengthBytes: (slot) => this.#word(slot, RECORD.lengthBytes) >>> 0,
      expiresAt: (slot) => doubles[(record(slot) + RECORD.expiresAt) >> 1] as number,
      costMs: (slot) => floats[record(slot) + RECORD.costMs] as number,
      identity: (slot) => (words[record(slot) + RECORD.key] as number) >>> 0,
      isPinned: (slot) => this.pins.isPinned(slot),
      digest: (slot) => writeDigest(words, record(slot) + RECORD.key),
      metadata: (slot) => Uint8Array.from(this.view(slot, 'metadata')),
    };
  }
}
