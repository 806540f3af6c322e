import { Ghosts } from './ghosts.ts';
import { grown } from './growing.ts';
import type { Departure, Policy, PolicyContext } from './policy.ts';
import { SlotLists } from './slot-lists.ts';

const SMALL = 0;
const MAIN = 1;

/** The share of the budget that newcomers have to themselves. */
const SMALL_SHARE = 0.1;
const MAX_USES = 3;
/** Uses since it came in that bring an entry from the small queue to the main one. */
const USES_TO_STAY = 2;

class S3Fifo implements Policy {
  readonly name = 's3-fifo';
  readonly #context: PolicyContext;
  readonly #lists = new SlotLists(2);
  readonly #ghosts = new Ghosts();
  #uses = new Uint8Array(this.#lists.capacity);
  #list = new Uint8Array(this.#lists.capacity);
  #size = new Float64Array(this.#lists.capacity);
  readonly #bytes = new Float64Array(2);
  readonly #length = new Int32Array(2);
  /** The victim that was named last, until it leaves: looking for it may have changed which queue is to give. */
  #named = -1;

  constructor(context: PolicyContext) {
    this.#context = context;
  }

  insert(slot: number): void {
    if (this.#lists.reserve(slot)) this.#grow();
    this.#uses[slot] = 0;
    this.#size[slot] = this.#context.sizeBytes(slot);
    this.#join(this.#ghosts.forget(this.#context.identity(slot)) ? MAIN : SMALL, slot);
  }

  touch(slot: number): void {
    const uses = this.#uses[slot] ?? 0;
    if (uses < MAX_USES) this.#uses[slot] = uses + 1;
  }

  update(slot: number): void {
    const list = this.#list[slot] ?? SMALL;
    const bytes = this.#context.sizeBytes(slot);
    this.#bytes[list] = (this.#bytes[list] ?? 0) + bytes - (this.#size[slot] ?? 0);
    this.#size[slot] = bytes;
  }

  leave(slot: number, why: Departure): void {
    const list = this.#list[slot] ?? SMALL;
    this.#part(list, slot);
    if (slot === this.#named) this.#named = -1;
    if (list === MAIN || why === 'removed') return;
    this.#ghosts.remember(this.#context.identity(slot), this.#size[slot] ?? 0);
    const { budgetBytes } = this.#context;
    this.#ghosts.trim(this.#lists.capacity, budgetBytes - budgetBytes * SMALL_SHARE);
  }

  victim(): number {
    if (this.#named >= 0 && this.#mayGo(this.#named)) return this.#named;
    const smallBytes = this.#context.budgetBytes * SMALL_SHARE;
    const fromSmall = (this.#bytes[SMALL] ?? 0) >= smallBytes || this.#length[MAIN] === 0;
    this.#named = fromSmall ? -1 : this.#mainVictim();
    if (this.#named < 0) this.#named = this.#smallVictim();
    // Also where it was looked through before: all of the small queue may have gone over to it.
    if (this.#named < 0) this.#named = this.#mainVictim();
    return this.#named;
  }

  #mayGo(slot: number): boolean {
    const usesToStay = this.#list[slot] === SMALL ? USES_TO_STAY : 1;
    return (this.#uses[slot] ?? 0) < usesToStay && !this.#context.isPinned(slot);
  }

  /** The oldest newcomer that did not earn its place; those that did go over to the main queue. */
  #smallVictim(): number {
    for (let left = this.#length[SMALL] ?? 0; left > 0; left--) {
      const last = this.#lists.last(SMALL);
      if (this.#context.isPinned(last)) this.#lists.move(SMALL, last);
      else if ((this.#uses[last] ?? 0) < USES_TO_STAY) return last;
      else {
        this.#part(SMALL, last);
        this.#uses[last] = 0;
        this.#join(MAIN, last);
      }
    }
    return -1;
  }

  /** The oldest of the main queue that was not used since it last came by; each use gives another round. */
  #mainVictim(): number {
    for (let left = (MAX_USES + 1) * (this.#length[MAIN] ?? 0); left > 0; left--) {
      const last = this.#lists.last(MAIN);
      const uses = this.#uses[last] ?? 0;
      const isPinned = this.#context.isPinned(last);
      if (!isPinned && uses === 0) return last;
      if (uses > 0) this.#uses[last] = uses - 1;
      this.#lists.move(MAIN, last);
    }
    return -1;
  }

  #join(list: number, slot: number): void {
    this.#list[slot] = list;
    this.#lists.unshift(list, slot);
    this.#length[list] = (this.#length[list] ?? 0) + 1;
    this.#bytes[list] = (this.#bytes[list] ?? 0) + (this.#size[slot] ?? 0);
  }

  #part(list: number, slot: number): void {
    this.#lists.remove(slot);
    this.#length[list] = (this.#length[list] ?? 0) - 1;
    this.#bytes[list] = (this.#bytes[list] ?? 0) - (this.#size[slot] ?? 0);
  }

  #grow(): void {
    const { capacity } = this.#lists;
    this.#uses = grown(this.#uses, capacity);
    this.#list = grown(this.#list, capacity);
    this.#size = grown(this.#size, capacity);
  }
}

/**
 * Three queues in order of coming in: newcomers pass a small one (a tenth of the budget), which lets only what was used
 * twice into the main one; what failed there leaves a ghost, and comes straight into the main queue when it is back.
 *
 * Ghosts stand for at most nine tenths of the budget, and are no more than the slots of the partition (rounded up to a
 * power of two), about 30 bytes each.
 *
 * Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023, https://doi.org/10.1145/3600006.3613147
 */
export function s3Fifo(context: PolicyContext): Policy {
  return new S3Fifo(context);
}
