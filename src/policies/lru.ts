import type { Policy, PolicyContext } from './policy.ts';
import { SlotLists } from './slot-lists.ts';

const RECENCY = 0;

class Lru implements Policy {
  readonly name = 'lru';
  readonly #context: PolicyContext;
  readonly #lists = new SlotLists(1);
  #length = 0;

  constructor(context: PolicyContext) {
    this.#context = context;
  }

  insert(slot: number): void {
    this.#lists.reserve(slot);
    this.#lists.unshift(RECENCY, slot);
    this.#length++;
  }

  touch(slot: number): void {
    this.#lists.move(RECENCY, slot);
  }

  touchAll(slots: Int32Array, count: number): void {
    for (let at = 0; at < count; at++) this.#lists.move(RECENCY, slots[at] as number);
  }

  update(): void {
    // A size is nothing to go by here.
  }

  leave(slot: number): void {
    this.#lists.remove(slot);
    this.#length--;
  }

  victim(): number {
    // A pinned slot is in use this very moment, so it moves to the front; each is passed over once, not at every call.
    for (let left = this.#length; left > 0; left--) {
      const last = this.#lists.last(RECENCY);
      if (!this.#context.isPinned(last)) return last;
      this.#lists.move(RECENCY, last);
    }
    return -1;
  }
}

/**
 * Evicts what was not used for the longest time.
 *
 * Source: Mattson et al., "Evaluation techniques for storage hierarchies", 1970, https://doi.org/10.1147/sj.92.0078
 */
export function lru(context: PolicyContext): Policy {
  return new Lru(context);
}
