import { grown } from './growing.ts';
import { SlotLists } from './slot-lists.ts';

const FIRST_CAPACITY = 64;
const ORDER = 0;
const NONE = -1;

/**
 * What a policy remembers of entries it evicted: identities with their sizes, oldest first out, found again in constant
 * time. Whoever uses it bounds it; a ghost takes about 30 bytes.
 *
 * Identities are 32-bit fingerprints, so among n ghosts a stranger is taken for one of them once in 2^32 / n times: one
 * in four thousand at a million ghosts. That costs a guess, never a wrong value.
 */
export class Ghosts {
  readonly #order = new SlotLists(1);
  #identity = new Uint32Array(FIRST_CAPACITY);
  #bytes = new Float64Array(FIRST_CAPACITY);
  /** The next ghost in the same bucket, or the next free place. */
  #next = new Int32Array(FIRST_CAPACITY);
  #buckets = new Int32Array(2 * FIRST_CAPACITY).fill(NONE);
  #free = NONE;
  #used = 0;
  #length = 0;
  #totalBytes = 0;

  get length(): number {
    return this.#length;
  }

  /** Sum of the sizes the ghosts had when they were entries. */
  get bytes(): number {
    return this.#totalBytes;
  }

  /** Remembers what was just evicted; one of the same identity makes way for it. */
  remember(identity: number, bytes: number): void {
    this.forget(identity);
    const ghost = this.#place();
    const bucket = this.#bucketOf(identity);
    this.#identity[ghost] = identity;
    this.#bytes[ghost] = bytes;
    this.#next[ghost] = this.#buckets[bucket] ?? NONE;
    this.#buckets[bucket] = ghost;
    this.#order.unshift(ORDER, ghost);
    this.#length++;
    this.#totalBytes += bytes;
  }

  /** Forgets a ghost; `false` if there is none of that identity. */
  forget(identity: number): boolean {
    if (this.#length === 0) return false;
    const wanted = identity >>> 0;
    let before = NONE;
    let ghost = this.#buckets[this.#bucketOf(identity)] ?? NONE;
    while (ghost !== NONE && this.#identity[ghost] !== wanted) {
      before = ghost;
      ghost = this.#next[ghost] ?? NONE;
    }
    if (ghost === NONE) return false;
    this.#unlink(ghost, before);
    return true;
  }

  /** Forgets the oldest until they are no more than that, in number and in bytes. */
  trim(length: number, bytes: number): void {
    while (this.#length > 0 && (this.#length > length || this.#totalBytes > bytes)) this.dropOldest();
  }

  /** Forgets the one that was evicted first, if there is any. */
  dropOldest(): void {
    const oldest = this.#order.last(ORDER);
    if (oldest < 0) return;
    let before = NONE;
    let ghost = this.#buckets[this.#bucketOf(this.#identity[oldest] ?? 0)] ?? NONE;
    while (ghost !== oldest) {
      before = ghost;
      ghost = this.#next[ghost] ?? NONE;
    }
    this.#unlink(ghost, before);
  }

  #unlink(ghost: number, before: number): void {
    const after = this.#next[ghost] ?? NONE;
    if (before === NONE) this.#buckets[this.#bucketOf(this.#identity[ghost] ?? 0)] = after;
    else this.#next[before] = after;
    this.#order.remove(ghost);
    this.#next[ghost] = this.#free;
    this.#free = ghost;
    this.#length--;
    // Sums of sizes that are no whole numbers drift; an empty list has none.
    this.#totalBytes = this.#length === 0 ? 0 : this.#totalBytes - (this.#bytes[ghost] ?? 0);
  }

  #place(): number {
    const free = this.#free;
    if (free !== NONE) {
      this.#free = this.#next[free] ?? NONE;
      return free;
    }
    if (this.#order.reserve(this.#used)) this.#grow();
    return this.#used++;
  }

  #bucketOf(identity: number): number {
    // Identities may be counted up, so they are mixed before their low bits are used.
    const mixed = Math.imul(identity ^ (identity >>> 16), 0x9e3779b1);
    return (mixed ^ (mixed >>> 15)) & (this.#buckets.length - 1);
  }

  #grow(): void {
    const { capacity } = this.#order;
    this.#identity = grown(this.#identity, capacity);
    this.#bytes = grown(this.#bytes, capacity);
    this.#next = grown(this.#next, capacity);
    // Only a full table grows, so every place is taken.
    this.#buckets = new Int32Array(2 * capacity).fill(NONE);
    for (let ghost = 0; ghost < this.#used; ghost++) {
      const bucket = this.#bucketOf(this.#identity[ghost] ?? 0);
      this.#next[ghost] = this.#buckets[bucket] ?? NONE;
      this.#buckets[bucket] = ghost;
    }
  }
}
