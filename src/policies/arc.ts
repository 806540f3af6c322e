import { Ghosts } from './ghosts.ts';
import { grown } from './growing.ts';
import type { Departure, Policy, PolicyContext } from './policy.ts';
import { SlotLists } from './slot-lists.ts';

/** Used once since they came in. */
const ONCE = 0;
/** Used more than once, or known from before. */
const OFTEN = 1;

class Arc implements Policy {
  readonly name = 'arc';
  readonly #context: PolicyContext;
  readonly #lists = new SlotLists(2);
  readonly #onceGhosts = new Ghosts();
  readonly #oftenGhosts = new Ghosts();
  #list = new Uint8Array(this.#lists.capacity);
  #size = new Float64Array(this.#lists.capacity);
  readonly #bytes = new Float64Array(2);
  readonly #length = new Int32Array(2);
  /** Bytes that the list of those used once should have. */
  #targetBytes = 0;
  /** The budget that the target is part of. */
  #budgetBytes = 0;

  constructor(context: PolicyContext) {
    this.#context = context;
  }

  insert(slot: number): void {
    if (this.#lists.reserve(slot)) {
      this.#list = grown(this.#list, this.#lists.capacity);
      this.#size = grown(this.#size, this.#lists.capacity);
    }
    const identity = this.#context.identity(slot);
    const bytes = this.#context.sizeBytes(slot);
    this.#size[slot] = bytes;
    this.#join(this.#learn(identity, bytes) ? OFTEN : ONCE, slot);
    this.#trim();
  }

  touch(slot: number): void {
    if (this.#list[slot] === OFTEN) {
      this.#lists.move(OFTEN, slot);
      return;
    }
    this.#part(slot);
    this.#join(OFTEN, slot);
  }

  update(slot: number): void {
    const list = this.#list[slot] ?? ONCE;
    const bytes = this.#context.sizeBytes(slot);
    this.#bytes[list] = (this.#bytes[list] ?? 0) + bytes - (this.#size[slot] ?? 0);
    this.#size[slot] = bytes;
    this.#trim();
  }

  leave(slot: number, why: Departure): void {
    const ghosts = this.#list[slot] === ONCE ? this.#onceGhosts : this.#oftenGhosts;
    this.#part(slot);
    if (why === 'removed') return;
    ghosts.remember(this.#context.identity(slot), this.#size[slot] ?? 0);
    this.#trim();
  }

  victim(): number {
    this.#followBudget();
    const onceBytes = this.#bytes[ONCE] ?? 0;
    const list = onceBytes > 0 && onceBytes > this.#targetBytes ? ONCE : OFTEN;
    const victim = this.#oldestOf(list);
    return victim >= 0 ? victim : this.#oldestOf(OFTEN - list);
  }

  /** Keeps the target's share of a budget that changed. */
  #followBudget(): void {
    const { budgetBytes } = this.#context;
    if (budgetBytes === this.#budgetBytes) return;
    if (this.#budgetBytes > 0) this.#targetBytes *= budgetBytes / this.#budgetBytes;
    this.#budgetBytes = budgetBytes;
  }

  #oldestOf(list: number): number {
    // A pinned slot is in use this very moment, so it moves to the front; each is passed over once, not at every call.
    for (let left = this.#length[list] ?? 0; left > 0; left--) {
      const last = this.#lists.last(list);
      if (!this.#context.isPinned(last)) return last;
      this.#lists.move(list, last);
    }
    return -1;
  }

  /** Whether an entry is known from before; if so, the list it was missed in gets more of the budget. */
  #learn(identity: number, bytes: number): boolean {
    const onceBytes = this.#onceGhosts.bytes;
    const oftenBytes = this.#oftenGhosts.bytes;
    if (this.#onceGhosts.forget(identity)) {
      const more = bytes * Math.max(1, oftenBytes / Math.max(1, onceBytes));
      this.#targetBytes = Math.min(this.#context.budgetBytes, this.#targetBytes + more);
      return true;
    }
    if (this.#oftenGhosts.forget(identity)) {
      const less = bytes * Math.max(1, onceBytes / Math.max(1, oftenBytes));
      this.#targetBytes = Math.max(0, this.#targetBytes - less);
      return true;
    }
    return false;
  }

  #trim(): void {
    const { budgetBytes } = this.#context;
    const { capacity } = this.#lists;
    const onceBytes = this.#bytes[ONCE] ?? 0;
    this.#onceGhosts.trim(capacity, budgetBytes - onceBytes);
    this.#oftenGhosts.trim(
      2 * capacity - this.#onceGhosts.length,
      2 * budgetBytes - onceBytes - (this.#bytes[OFTEN] ?? 0) - this.#onceGhosts.bytes,
    );
  }

  #join(list: number, slot: number): void {
    this.#list[slot] = list;
    this.#lists.unshift(list, slot);
    this.#length[list] = (this.#length[list] ?? 0) + 1;
    this.#bytes[list] = (this.#bytes[list] ?? 0) + (this.#size[slot] ?? 0);
  }

  #part(slot: number): void {
    const list = this.#list[slot] ?? ONCE;
    this.#lists.remove(slot);
    this.#length[list] = (this.#length[list] ?? 0) - 1;
    this.#bytes[list] = (this.#bytes[list] ?? 0) - (this.#size[slot] ?? 0);
  }
}

/**
 * Two LRU lists, of what was used once and of what was used more often, whose shares of the budget follow the ghosts that
 * come back: where something was missed too early, there is more room from then on.
 *
 * Ghosts and entries together stand for at most twice the budget, and ghosts are no more than twice the slots of the
 * partition (rounded up to a power of two), about 30 bytes each. The paper's special case for a ghost hit while both
 * lists are at their targets is left out, as room is made here before the newcomer is known.
 *
 * Source: Megiddo and Modha, "ARC: a self-tuning, low overhead replacement cache", FAST 2003,
 * https://www.usenix.org/conference/fast-03/arc-self-tuning-low-overhead-replacement-cache
 */
export function arc(context: PolicyContext): Policy {
  return new Arc(context);
}
