import { FrequencySketch } from './frequency-sketch.ts';
import { grown } from './growing.ts';
import type { Policy, PolicyContext } from './policy.ts';
import { SlotLists } from './slot-lists.ts';
import { WindowClimber } from './window-climber.ts';

const WINDOW = 0;
const PROBATION = 1;
const PROTECTED = 2;

/** The share of what is outside the window that is kept for what was used again there. */
const PROTECTED_SHARE = 0.8;

class WTinyLfu implements Policy {
  readonly name = 'w-tinylfu';
  readonly #context: PolicyContext;
  readonly #lists = new SlotLists(3);
  readonly #sketch = new FrequencySketch();
  readonly #climber = new WindowClimber();
  #identity = new Uint32Array(this.#lists.capacity);
  #list = new Uint8Array(this.#lists.capacity);
  #size = new Float64Array(this.#lists.capacity);
  readonly #bytes = new Float64Array(3);
  readonly #length = new Int32Array(3);
  /** The budget that the targets below are shares of. */
  #budgetBytes = 0;
  #windowBytes = 0;
  #protectedBytes = 0;

  constructor(context: PolicyContext) {
    this.#context = context;
    this.#retarget();
  }

  insert(slot: number): void {
    if (this.#lists.reserve(slot)) this.#grow();
    const identity = this.#context.identity(slot);
    this.#identity[slot] = identity;
    this.#size[slot] = this.#context.sizeBytes(slot);
    this.#request(identity, false);
    this.#join(WINDOW, slot);
    this.#shrinkWindow();
  }

  touch(slot: number): void {
    this.#request(this.#identity[slot] ?? 0, true);
    const list = this.#list[slot] ?? WINDOW;
    if (list !== PROBATION) {
      this.#lists.move(list, slot);
      return;
    }
    this.#part(slot);
    this.#join(PROTECTED, slot);
    this.#shrinkProtected();
  }

  update(slot: number): void {
    const list = this.#list[slot] ?? WINDOW;
    const bytes = this.#context.sizeBytes(slot);
    this.#bytes[list] = (this.#bytes[list] ?? 0) + bytes - (this.#size[slot] ?? 0);
    this.#size[slot] = bytes;
    this.#shrinkWindow();
    this.#shrinkProtected();
  }

  leave(slot: number): void {
    this.#part(slot);
  }

  victim(): number {
    const candidate = this.#oldestOf(WINDOW);
    const probation = this.#oldestOf(PROBATION);
    const main = probation >= 0 ? probation : this.#oldestOf(PROTECTED);
    if (main < 0) return candidate;
    if (candidate < 0) return main;
    // The newcomer, its size taken for that of the oldest, would push the oldest out, which then has to be worth more than
    // what would go for it.
    if ((this.#bytes[WINDOW] ?? 0) + (this.#size[candidate] ?? 0) <= this.#windowBytes) return main;
    const isWorthMore =
      this.#sketch.estimate(this.#identity[candidate] ?? 0) > this.#sketch.estimate(this.#identity[main] ?? 0);
    return isWorthMore ? main : candidate;
  }

  #request(identity: number, isHit: boolean): void {
    this.#sketch.count(identity);
    const bytes = (this.#bytes[WINDOW] ?? 0) + (this.#bytes[PROBATION] ?? 0) + (this.#bytes[PROTECTED] ?? 0);
    // While it fills, the hit rate says nothing of the window.
    const { budgetBytes } = this.#context;
    if (budgetBytes !== this.#budgetBytes) this.#retarget();
    if (2 * bytes < budgetBytes) return;
    const entries = (this.#length[WINDOW] ?? 0) + (this.#length[PROBATION] ?? 0) + (this.#length[PROTECTED] ?? 0);
    if (this.#climber.sees(isHit, entries)) this.#retarget();
  }

  #retarget(): void {
    this.#budgetBytes = this.#context.budgetBytes;
    this.#windowBytes = this.#budgetBytes * this.#climber.share;
    this.#protectedBytes = (this.#budgetBytes - this.#windowBytes) * PROTECTED_SHARE;
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

  #shrinkWindow(): void {
    // The newest stays whatever its size: it is compared with others when the next one comes.
    while ((this.#bytes[WINDOW] ?? 0) > this.#windowBytes && (this.#length[WINDOW] ?? 0) > 1) {
      const last = this.#lists.last(WINDOW);
      this.#part(last);
      this.#join(PROBATION, last);
    }
  }

  #shrinkProtected(): void {
    while ((this.#bytes[PROTECTED] ?? 0) > this.#protectedBytes && (this.#length[PROTECTED] ?? 0) > 1) {
      const last = this.#lists.last(PROTECTED);
      this.#part(last);
      this.#join(PROBATION, last);
    }
  }

  #join(list: number, slot: number): void {
    this.#list[slot] = list;
    this.#lists.unshift(list, slot);
    this.#length[list] = (this.#length[list] ?? 0) + 1;
    this.#bytes[list] = (this.#bytes[list] ?? 0) + (this.#size[slot] ?? 0);
  }

  #part(slot: number): void {
    const list = this.#list[slot] ?? WINDOW;
    this.#lists.remove(slot);
    this.#length[list] = (this.#length[list] ?? 0) - 1;
    this.#bytes[list] = (this.#bytes[list] ?? 0) - (this.#size[slot] ?? 0);
  }

  #grow(): void {
    const { capacity } = this.#lists;
    this.#identity = grown(this.#identity, capacity);
    this.#list = grown(this.#list, capacity);
    this.#size = grown(this.#size, capacity);
    this.#sketch.reserve(capacity);
  }
}

/**
 * Newcomers pass a window in order of use; whoever would leave it stays only if it was asked for more often, by a sketch
 * of all requests, than what would have to go for it. The window's share of the budget climbs to where hits are most.
 *
 * Besides 21 bytes a slot it remembers sixteen bytes of sketch for each slot of the partition (rounded up to a power of two).
 *
 * Source: Einziger et al., "Adaptive software cache management", Middleware 2018, https://doi.org/10.1145/3274808.3274816
 */
export function wTinyLfu(context: PolicyContext): Policy {
  return new WTinyLfu(context);
}
