const FIRST_CAPACITY = 64;

/**
 * Doubly linked lists of slots over one typed array: no allocation an entry, every step in constant time. A slot is in
 * one list at a time, and leaves it without saying which.
 *
 * ```
 *   list -> first <-> ... <-> last -> list      node 0 .. lists - 1 stand for the lists themselves, so that no end
 *                                               is a special case; slot s is node s + lists
 *   #links: [next of node 0, previous of node 0, next of node 1, ...]
 * ```
 */
export class SlotLists {
  readonly #lists: number;
  #capacity = FIRST_CAPACITY;
  #links: Int32Array;

  constructor(lists: number) {
    this.#lists = lists;
    this.#links = new Int32Array(2 * (lists + FIRST_CAPACITY));
    for (let list = 0; list < lists; list++) this.#links[2 * list] = this.#links[2 * list + 1] = list;
  }

  /** Slots there is room for: the highest slot seen, rounded up. Arrays beside this one grow with it. */
  get capacity(): number {
    return this.#capacity;
  }

  /** The slot at the front, negative if there is none. */
  first(list: number): number {
    return (this.#links[2 * list] ?? 0) - this.#lists;
  }

  /** The slot at the end, negative if there is none. */
  last(list: number): number {
    return (this.#links[2 * list + 1] ?? 0) - this.#lists;
  }

  /** The slot before this one, nearer to the front; negative at the front. */
  before(slot: number): number {
    return (this.#links[2 * (slot + this.#lists) + 1] ?? 0) - this.#lists;
  }

  /** Makes room for a slot; `true` if the capacity changed. */
  reserve(slot: number): boolean {
    if (slot < this.#capacity) return false;
    while (this.#capacity <= slot) this.#capacity *= 2;
    const links = new Int32Array(2 * (this.#lists + this.#capacity));
    links.set(this.#links);
    this.#links = links;
    return true;
  }

  /** Puts a slot that is in no list at the front of one; room for it was reserved. */
  unshift(list: number, slot: number): void {
    const links = this.#links;
    const node = slot + this.#lists;
    const first = links[2 * list] ?? 0;
    links[2 * node] = first;
    links[2 * node + 1] = list;
    links[2 * first + 1] = node;
    links[2 * list] = node;
  }

  /** Takes a slot out of the list it is in. */
  remove(slot: number): void {
    const links = this.#links;
    const node = slot + this.#lists;
    const next = links[2 * node] ?? 0;
    const previous = links[2 * node + 1] ?? 0;
    links[2 * previous] = next;
    links[2 * next + 1] = previous;
  }

  /** Moves a slot from the list it is in to the front of one. */
  move(list: number, slot: number): void {
    const links = this.#links;
    const node = slot + this.#lists;
    const first = links[2 * list] ?? 0;
    if (first === node) return;
    const next = links[2 * node] ?? 0;
    const previous = links[2 * node + 1] ?? 0;
    links[2 * previous] = next;
    links[2 * next + 1] = previous;
    links[2 * node] = first;
    links[2 * node + 1] = list;
    links[2 * first + 1] = node;
    links[2 * list] = node;
  }
}
