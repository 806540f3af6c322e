import { grown } from './growing.ts';
import type { Policy, PolicyContext } from './policy.ts';
import { SlotLists } from './slot-lists.ts';

const QUEUE = 0;

class Sieve implements Policy {
  readonly name = 'sieve';
  readonly #context: PolicyContext;
  readonly #lists = new SlotLists(1);
  #visited = new Uint8Array(this.#lists.capacity);
  /** The next slot to look at; negative stands for the oldest. */
  #hand = -1;
  #length = 0;

  constructor(context: PolicyContext) {
    this.#context = context;
  }

  insert(slot: number): void {
    if (this.#lists.reserve(slot)) this.#visited = grown(this.#visited, this.#lists.capacity);
    this.#lists.unshift(QUEUE, slot);
    this.#visited[slot] = 0;
    this.#length++;
  }

  touch(slot: number): void {
    this.#visited[slot] = 1;
  }

  update(): void {
    // A size is nothing to go by here.
  }

  leave(slot: number): void {
    if (slot === this.#hand) this.#hand = this.#lists.before(slot);
    this.#lists.remove(slot);
    this.#length--;
  }

  victim(): number {
    const lists = this.#lists;
    const visited = this.#visited;
    // Once around takes every mark away, so twice around has seen every slot that is not pinned without one.
    for (let left = 2 * this.#length; left > 0; left--) {
      if (this.#hand < 0) this.#hand = lists.last(QUEUE);
      const slot = this.#hand;
      if (!this.#context.isPinned(slot) && visited[slot] === 0) return slot;
      visited[slot] = 0;
      this.#hand = lists.before(slot);
    }
    return -1;
  }
}

/**
 * Evicts, with a hand that walks from the oldest to the newest, what was not used since the hand came by. A hit only sets
 * a mark; what stays is never moved, so newcomers are sifted fast.
 *
 * Source: Zhang et al., "SIEVE is simpler than LRU", NSDI 2024, https://www.usenix.org/conference/nsdi24/presentation/zhang-yazhuo
 */
export function sieve(context: PolicyContext): Policy {
  return new Sieve(context);
}
