import { invariant } from '../../base/assertions.ts';

const NONE = -1;
const FREE = -1;
/** Holder of a number that names no block at present. */
const UNUSED = -2;
const STEPS_LOG2 = 4;
const STEPS = 1 << STEPS_LOG2;
// Block sizes are whole units below 2^31: exact classes below 16, then 16 steps a doubling.
const CLASSES = (31 - STEPS_LOG2 + 1) * STEPS;
const FIRST_CAPACITY = 256;
/** Blocks of the request's own class looked at, as some of them may be too short; beyond that a larger one is split. */
const LOOK = 32;

/**
 * Divides segments into blocks of whole units, two-level segregated fit: free blocks lie in lists by size, 16 classes a
 * doubling, and a bitmap finds the next list that is not empty. Neighbours that are free are joined at once.
 *
 * ```
 *   segment 0   | entry | free | entry | entry |     free     |      blocks touch; no two free ones do
 *   segment 1   |    entry    |         free                  |
 *
 *   classes     [16-16] [17-17] ... [32-33] [34-35] ... [992-1023] [1024-1087] ...      in units
 * ```
 *
 * A block is exactly as long as asked for, so nothing is lost inside of it but the rounding to a unit. All of this lies in
 * the owner's own heap: no other thread can spoil it. Every step takes constant time, up to the few words of the bitmap.
 *
 * Source: Masmano et al., "TLSF: a new dynamic memory allocator for real-time systems", 2004,
 * https://doi.org/10.1109/EMRTS.2004.1311009
 */
export class BlockAllocator {
  // A block is a number; what is known of it lies in these, by that number.
  #segment = new Int32Array(FIRST_CAPACITY);
  #start = new Int32Array(FIRST_CAPACITY);
  #units = new Int32Array(FIRST_CAPACITY);
  /** Who has it: what the caller said, or `FREE`. */
  #holder = new Int32Array(FIRST_CAPACITY).fill(FREE);
  #before = new Int32Array(FIRST_CAPACITY).fill(NONE);
  #after = new Int32Array(FIRST_CAPACITY).fill(NONE);
  #nextFree = new Int32Array(FIRST_CAPACITY).fill(NONE);
  #previousFree = new Int32Array(FIRST_CAPACITY).fill(NONE);
  readonly #spare: number[] = [];
  #blocks = 0;
  readonly #firstOf = new Int32Array(CLASSES).fill(NONE);
  readonly #bitmap = new Int32Array(CLASSES / 32);
  #freeUnits = 0;
  #freeBlocks = 0;
  readonly segments: number;
  readonly totalUnits: number;

  /** @param reservedUnits units at the beginning of each segment that are never given out */
  constructor(segmentUnits: readonly number[], reservedUnits: number) {
    for (const [segment, units] of segmentUnits.entries()) {
      const block = this.#makeBlock(segment, reservedUnits, units - reservedUnits);
      this.#freeUnits += units - reservedUnits;
      this.#list(block);
    }
    this.segments = segmentUnits.length;
    this.totalUnits = this.#freeUnits;
  }

  get freeUnits(): number {
    return this.#freeUnits;
  }

  /** Blocks there are, free ones included. */
  get blocks(): number {
    return this.#blocks - this.#spare.length;
  }

  /** Blocks that are not free. */
  get usedBlocks(): number {
    return this.blocks - this.#freeBlocks;
  }

  segment(block: number): number {
    return this.#segment[block] as number;
  }

  /** Where the block begins in its segment, in units. */
  start(block: number): number {
    return this.#start[block] as number;
  }

  units(block: number): number {
    return this.#units[block] as number;
  }

  /** Whether this is a free block; `false` too for one that was joined to another. */
  isFree(block: number): boolean {
    return this.#holder[block] === FREE;
  }

  /** What `hold` said of the block. */
  holder(block: number): number {
    return this.#holder[block] as number;
  }

  /** Notes who has an allocated block; a number from 0. */
  hold(block: number, holder: number): void {
    invariant(this.holder(block) >= 0 && holder >= 0, 'only an allocated block has a holder');
    this.#holder[block] = holder;
  }

  /** The block before this one in its segment, or -1. */
  before(block: number): number {
    return this.#before[block] as number;
  }

  /** The block after this one in its segment, or -1. */
  after(block: number): number {
    return this.#after[block] as number;
  }

  /** A block of exactly so many units; -1 if no free one is long enough, at most 1/16 longer if there are many of the kind. */
  allocate(units: number, holder: number): number {
    invariant(units > 0 && holder >= 0, 'a block has at least one unit, and a holder');
    const block = this.#find(units);
    if (block === NONE) return NONE;
    this.#unlist(block);
    if (this.units(block) > units) this.#list(this.#cut(block, units));
    this.#holder[block] = holder;
    this.#freeUnits -= units;
    return block;
  }

  /** Makes a block free; gives the free block it is part of now. */
  free(block: number): number {
    invariant(this.holder(block) >= 0, 'a block was freed twice');
    this.#freeUnits += this.units(block);
    this.#holder[block] = FREE;
    let joined = block;
    const before = this.before(block);
    if (before !== NONE && this.isFree(before)) {
      this.#unlist(before);
      this.#join(before, block);
      joined = before;
    }
    const after = this.after(joined);
    if (after !== NONE && this.isFree(after)) {
      this.#unlist(after);
      this.#join(joined, after);
    }
    this.#list(joined);
    return joined;
  }

  /** Divides an allocated block: it keeps its first `units`, and what follows becomes another one with the same holder. */
  split(block: number, units: number): number {
    invariant(this.holder(block) >= 0 && units > 0 && units < this.units(block), 'a block is split inside of it');
    const rest = this.#cut(block, units);
    this.#holder[rest] = this.holder(block);
    return rest;
  }

  /** The first of the longest free blocks' class, or -1: near enough to the longest. */
  longest(): number {
    for (let word = this.#bitmap.length - 1; word >= 0; word--) {
      const bits = this.#bitmap[word] as number;
      if (bits !== 0) return this.#firstOf[word * 32 + 31 - Math.clz32(bits)] as number;
    }
    return NONE;
  }

  /** The longest run, in units, of blocks that are free or may become so. Looks at every block there is. */
  longestRun(mayGo: (block: number) => boolean): number {
    let longest = 0;
    for (let segment = 0; segment < this.segments; segment++) {
      let run = 0;
      // The first block of a segment has its number for good: cuts and joins leave the earlier block its own.
      for (let block = segment; block !== NONE; block = this.after(block)) {
        run = this.isFree(block) || mayGo(block) ? run + this.units(block) : 0;
        longest = Math.max(longest, run);
      }
    }
    return longest;
  }

  #find(units: number): number {
    const own = classOf(units);
    let block = this.#firstOf[own] as number;
    for (let looked = 0; block !== NONE && looked < LOOK; looked++) {
      if (this.units(block) >= units) return block;
      block = this.#nextFree[block] as number;
    }
    // Every block of a later class is long enough.
    const larger = this.#nextClass(own + 1);
    return larger === NONE ? NONE : (this.#firstOf[larger] as number);
  }

  #nextClass(from: number): number {
    if (from >= CLASSES) return NONE;
    let word = from >> 5;
    let bits = (this.#bitmap[word] as number) & (-1 << (from & 31));
    while (bits === 0) {
      if (++word === this.#bitmap.length) return NONE;
      bits = this.#bitmap[word] as number;
    }
    return word * 32 + 31 - Math.clz32(bits & -bits);
  }

  #makeBlock(segment: number, start: number, units: number): number {
    const block = this.#spare.pop() ?? this.#blocks++;
    if (block >= this.#units.length) this.#grow();
    this.#holder[block] = FREE;
    this.#segment[block] = segment;
    this.#start[block] = start;
    this.#units[block] = units;
    this.#before[block] = NONE;
    this.#after[block] = NONE;
    return block;
  }

  /** Shortens a block to `units`; gives the block of the rest, which is in no list yet. */
  #cut(block: number, units: number): number {
    const rest = this.#makeBlock(this.segment(block), this.start(block) + units, this.units(block) - units);
    const after = this.after(block);
    this.#units[block] = units;
    this.#after[block] = rest;
    this.#before[rest] = block;
    this.#after[rest] = after;
    if (after !== NONE) this.#before[after] = rest;
    return rest;
  }

  #join(block: number, after: number): void {
    const next = this.after(after);
    this.#units[block] = this.units(block) + this.units(after);
    this.#after[block] = next;
    if (next !== NONE) this.#before[next] = block;
    this.#holder[after] = UNUSED;
    this.#spare.push(after);
  }

  #list(block: number): void {
    this.#freeBlocks++;
    const size = classOf(this.units(block));
    const first = this.#firstOf[size] as number;
    this.#nextFree[block] = first;
    this.#previousFree[block] = NONE;
    if (first === NONE) this.#bitmap[size >> 5] = (this.#bitmap[size >> 5] as number) | (1 << (size & 31));
    else this.#previousFree[first] = block;
    this.#firstOf[size] = block;
  }

  #unlist(block: number): void {
    this.#freeBlocks--;
    const previous = this.#previousFree[block] as number;
    const next = this.#nextFree[block] as number;
    if (next !== NONE) this.#previousFree[next] = previous;
    if (previous !== NONE) {
      this.#nextFree[previous] = next;
      return;
    }
    const size = classOf(this.units(block));
    this.#firstOf[size] = next;
    if (next === NONE) this.#bitmap[size >> 5] = (this.#bitmap[size >> 5] as number) & ~(1 << (size & 31));
  }

  #grow(): void {
    this.#segment = grown(this.#segment, 0);
    this.#start = grown(this.#start, 0);
    this.#units = grown(this.#units, 0);
    this.#holder = grown(this.#holder, FREE);
    this.#before = grown(this.#before, NONE);
    this.#after = grown(this.#after, NONE);
    this.#nextFree = grown(this.#nextFree, NONE);
    this.#previousFree = grown(this.#previousFree, NONE);
  }
}

function classOf(units: number): number {
  if (units < STEPS) return units;
  const doubling = 31 - Math.clz32(units);
  return (doubling - STEPS_LOG2 + 1) * STEPS + ((units >>> (doubling - STEPS_LOG2)) & (STEPS - 1));
}

function grown(from: Int32Array, fill: number): Int32Array<ArrayBuffer> {
  const to = new Int32Array(2 * from.length).fill(fill);
  to.set(from);
  return to;
}
