const NONE = -1;
const FIRST_CAPACITY = 64;

/**
 * A doubly linked list of slots in two typed arrays: no allocation an entry, every step in constant time.
 *
 * ```
 *   first <-> ... <-> last      next[slot], previous[slot]; -1 at both ends
 * ```
 */
export class SlotList {
  #next = new Int32Array(FIRST_CAPACITY).fill(NONE);
  #previous = new Int32Array(FIRST_CAPACITY).fill(NONE);
  #first = NONE;
  #last = NONE;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** The slot at the end, or -1. */
  get last(): number {
    return this.#last;
  }

  /** Puts a slot that is not in the list at its front. */
  unshift(slot: number): void {
    if (slot >= this.#next.length) this.#grow(slot + 1);
    this.#previous[slot] = NONE;
    this.#next[slot] = this.#first;
    if (this.#first === NONE) this.#last = slot;
    else this.#previous[this.#first] = slot;
    this.#first = slot;
    this.#length++;
  }

  /** Takes a slot out that is in the list. */
  remove(slot: number): void {
    const before = this.#previous[slot] ?? NONE;
    const after = this.#next[slot] ?? NONE;
    if (before === NONE) this.#first = after;
    else this.#next[before] = after;
    if (after === NONE) this.#last = before;
    else this.#previous[after] = before;
    this.#length--;
  }

  /** Moves a slot that is in the list to its front. */
  refresh(slot: number): void {
    if (slot === this.#first) return;
    this.remove(slot);
    this.unshift(slot);
  }

  #grow(needed: number): void {
    const capacity = Math.max(needed, 2 * this.#next.length);
    const next = new Int32Array(capacity).fill(NONE);
    const previous = new Int32Array(capacity).fill(NONE);
    next.set(this.#next);
    previous.set(this.#previous);
    this.#next = next;
    this.#previous = previous;
  }
}
