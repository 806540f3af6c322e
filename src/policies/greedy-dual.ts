import { grown } from './growing.ts';
import type { Departure, Policy, PolicyContext } from './policy.ts';
import { SlotHeap } from './slot-heap.ts';

const FIRST_CAPACITY = 64;

/** What an entry is worth beyond the age of the cache, given how often it was used. */
export type Worth = (slot: number, uses: number) => number;

/**
 * The frame of the GreedyDual family: an entry's priority is the cache's age at its last use plus its worth; the lowest
 * leaves, and the age rises to its priority, so that what is no longer used is overtaken in time.
 *
 * Source: Cao and Irani, "Cost-aware WWW proxy caching algorithms", USENIX 1997,
 * https://www.usenix.org/conference/usits-97/cost-aware-www-proxy-caching-algorithms
 */
export class GreedyDual implements Policy {
  readonly name: string;
  readonly #context: PolicyContext;
  readonly #worth: Worth;
  readonly #heap = new SlotHeap();
  #uses = new Float64Array(FIRST_CAPACITY);
  #passedOver = new Int32Array(FIRST_CAPACITY);
  #age = 0;

  constructor(name: string, context: PolicyContext, worth: Worth) {
    this.name = name;
    this.#context = context;
    this.#worth = worth;
  }

  insert(slot: number): void {
    if (slot >= this.#uses.length) this.#grow(slot + 1);
    this.#uses[slot] = 1;
    this.#heap.set(slot, this.#age + this.#worth(slot, 1));
  }

  touch(slot: number): void {
    const uses = (this.#uses[slot] ?? 0) + 1;
    this.#uses[slot] = uses;
    this.#heap.set(slot, this.#age + this.#worth(slot, uses));
  }

  update(slot: number): void {
    this.#heap.set(slot, this.#age + this.#worth(slot, this.#uses[slot] ?? 1));
  }

  leave(slot: number, why: Departure): void {
    if (why === 'evicted') this.#age = Math.max(this.#age, this.#heap.priorityOf(slot));
    this.#heap.remove(slot);
  }

  victim(): number {
    const heap = this.#heap;
    let passedOver = 0;
    while (heap.length > 0 && this.#context.isPinned(heap.lowest)) {
      this.#passedOver[passedOver++] = heap.lowest;
      heap.remove(heap.lowest);
    }
    const victim = heap.lowest;
    while (passedOver > 0) heap.restore(this.#passedOver[--passedOver] ?? 0);
    return victim;
  }

  #grow(needed: number): void {
    const capacity = Math.max(needed, 2 * this.#uses.length);
    this.#uses = grown(this.#uses, capacity);
    this.#passedOver = grown(this.#passedOver, capacity);
  }
}
