import type { Policy, PolicyContext } from './policy.ts';
import { SlotLists } from './slot-lists.ts';

const QUEUE = 0;

class Fifo implements Policy {
  readonly name = 'fifo';
  readonly #context: PolicyContext;
  readonly #lists = new SlotLists(1);
  #length = 0;

  constructor(context: PolicyContext) {
    this.#context = context;
  }

  insert(slot: number): void {
    this.#lists.reserve(slot);
    this.#lists.unshift(QUEUE, slot);
    this.#length++;
  }

  touch(): void {
    // The order of coming in is the order of going out.
  }

  update(): void {
    // A size is nothing to go by here.
  }

  leave(slot: number): void {
    this.#lists.remove(slot);
    this.#length--;
  }

  victim(): number {
    // A pinned slot starts anew at the front, so that each is passed over once, not at every call.
    for (let left = this.#length; left > 0; left--) {
      const last = this.#lists.last(QUEUE);
      if (!this.#context.isPinned(last)) return last;
      this.#lists.move(QUEUE, last);
    }
    return -1;
  }
}

/**
 * Evicts what came in first, used or not: the least work, and what others have to beat.
 *
 * Source: Belady, "A study of replacement algorithms for a virtual-storage computer", 1966, https://doi.org/10.1147/sj.52.0078
 */
export function fifo(context: PolicyContext): Policy {
  return new Fifo(context);
}
