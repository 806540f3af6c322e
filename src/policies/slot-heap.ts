const FIRST_CAPACITY = 64;
const ABSENT = -1;

/**
 * A binary heap of slots by priority, lowest first; equal priorities leave in the order of their last push or update.
 * Typed arrays that double; every step takes logarithmic time.
 */
export class SlotHeap {
  #heap = new Int32Array(FIRST_CAPACITY);
  #place = new Int32Array(FIRST_CAPACITY).fill(ABSENT);
  #priority = new Float64Array(FIRST_CAPACITY);
  #order = new Float64Array(FIRST_CAPACITY);
  #length = 0;
  #counter = 0;

  get length(): number {
    return this.#length;
  }

  /** The slot with the lowest priority, or -1. */
  get lowest(): number {
    return this.#length === 0 ? -1 : (this.#heap[0] ?? -1);
  }

  /** The priority a slot was last given. */
  priorityOf(slot: number): number {
    return this.#priority[slot] ?? 0;
  }

  /** Puts a slot in, or gives one that is in another priority. */
  set(slot: number, priority: number): void {
    if (slot >= this.#place.length) this.#grow(slot + 1);
    this.#priority[slot] = priority;
    this.#order[slot] = this.#counter++;
    if (this.#place[slot] === ABSENT) {
      this.#put(slot, this.#length++);
      this.#rise(slot);
      return;
    }
    this.#rise(slot);
    this.#sink(slot);
  }

  /** Takes a slot out that is in. */
  remove(slot: number): void {
    const place = this.#place[slot] ?? ABSENT;
    this.#place[slot] = ABSENT;
    this.#length--;
    const moved = this.#heap[this.#length] ?? ABSENT;
    if (moved === slot) return;
    this.#put(moved, place);
    this.#rise(moved);
    this.#sink(moved);
  }

  /** Puts a slot back that was taken out, with the priority and the order that it had. */
  restore(slot: number): void {
    this.#put(slot, this.#length++);
    this.#rise(slot);
  }

  #isBefore(a: number, b: number): boolean {
    const difference = (this.#priority[a] ?? 0) - (this.#priority[b] ?? 0);
    return difference < 0 || (difference === 0 && (this.#order[a] ?? 0) < (this.#order[b] ?? 0));
  }

  #put(slot: number, place: number): void {
    this.#heap[place] = slot;
    this.#place[slot] = place;
  }

  #rise(slot: number): void {
    for (let place = this.#place[slot] ?? 0; place > 0;) {
      const above = (place - 1) >> 1;
      const parent = this.#heap[above] ?? 0;
      if (!this.#isBefore(slot, parent)) return;
      this.#put(parent, place);
      this.#put(slot, above);
      place = above;
    }
  }

  #sink(slot: number): void {
    for (let place = this.#place[slot] ?? 0; ;) {
      let below = 2 * place + 1;
      if (below >= this.#length) return;
      const right = below + 1;
      if (right < this.#length && this.#isBefore(this.#heap[right] ?? 0, this.#heap[below] ?? 0)) below = right;
      const child = this.#heap[below] ?? 0;
      if (!this.#isBefore(child, slot)) return;
      this.#put(child, place);
      this.#put(slot, below);
      place = below;
    }
  }

  #grow(needed: number): void {
    const capacity = Math.max(needed, 2 * this.#place.length);
    const heap = new Int32Array(capacity);
    const place = new Int32Array(capacity).fill(ABSENT);
    const priority = new Float64Array(capacity);
    const order = new Float64Array(capacity);
    heap.set(this.#heap);
    place.set(this.#place);
    priority.set(this.#priority);
    order.set(this.#order);
    this.#heap = heap;
    this.#place = place;
    this.#priority = priority;
    this.#order = order;
  }
}
