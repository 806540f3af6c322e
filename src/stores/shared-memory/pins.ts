import { invariant } from '../../base/assertions.ts';
import { InferkvError } from '../../base/errors.ts';
import type { Memory } from './handle.ts';
import { AREA, PINS_PER_THREAD } from './layout.ts';

const NONE = -1;
// Up to here nobody minds that the owner looks at pins that are not set.
const LOW_TOP = 8;

/** The pins of one thread: which records the owner must leave as they are. Only that thread uses this object. */
export class Pins {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #at: number;
  readonly #topAt: number;
  /** Pins not set: a stack in which the lowest lie on top, so that the owner has few to look at. */
  readonly #unset = new Int32Array(PINS_PER_THREAD);
  readonly #onIdle: () => void;
  #unsetCount = PINS_PER_THREAD;
  #top = 0;

  /** @param onIdle called when no pin is left that was taken */
  constructor({ words }: Memory, area: number, onIdle: () => void) {
    this.#words = words;
    this.#onIdle = onIdle;
    this.#at = area + AREA.pins;
    this.#topAt = area + AREA.pinTop;
    this.#order();
  }

  get active(): number {
    return PINS_PER_THREAD - this.#unsetCount;
  }

  /**
   * A pin to set, from now on looked at by the owner.
   *
   * @throws InferkvError `ERR_INFERKV_OVERLOADED` if the thread has all of them set
   */
  take(): number {
    if (this.#unsetCount === 0) {
      throw new InferkvError(
        'ERR_INFERKV_OVERLOADED',
        `This thread holds ${PINS_PER_THREAD} leases of the shared memory store, which is all it may; release some first.`,
      );
    }
    const pin = this.#unset[--this.#unsetCount] as number;
    if (pin >= this.#top) {
      this.#top = pin + 1;
      // Before the pin is set: an owner that does not see the new top runs before the check of the record's state.
      Atomics.store(this.#words, this.#topAt, this.#top);
    }
    return pin;
  }

  /** Says that the record of `slot` is about to be read. It counts only if the record is found live afterwards. */
  set(pin: number, slot: number): void {
    Atomics.store(this.#words, this.#at + pin, slot + 1);
  }

  /** Says that the record is not read any more; all reading has happened before. */
  clear(pin: number): void {
    Atomics.store(this.#words, this.#at + pin, 0);
  }

  /** Gives a pin back that is not set. */
  give(pin: number): void {
    this.#unset[this.#unsetCount++] = pin;
    if (this.#unsetCount < PINS_PER_THREAD) return;
    if (this.#top > LOW_TOP) {
      this.#order();
      this.#top = 0;
      Atomics.store(this.#words, this.#topAt, 0);
    }
    this.#onIdle();
  }

  #order(): void {
    for (let i = 0; i < PINS_PER_THREAD; i++) this.#unset[i] = PINS_PER_THREAD - 1 - i;
  }
}

/** What the owner knows of all threads' pins, as of its last look. */
export class PinScan {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #areasAt: number;
  readonly #maxThreads: number;
  /** By slot, the last look that found it pinned. */
  readonly #seen: Int32Array;
  readonly #pinned: number[] = [];
  /** What the owner itself holds, by slot: it frees, so it needs no pins, and may hold any number. */
  readonly #held = new Map<number, number>();
  #look = 0;
  #pins = 0;

  constructor({ words, layout }: Memory) {
    this.#words = words;
    this.#areasAt = layout.areasAt;
    this.#maxThreads = layout.maxThreads;
    this.#seen = new Int32Array(layout.maxEntries);
  }

  /** Pins found set at the last look. */
  get pins(): number {
    return this.#pins;
  }

  /** The slots found pinned at the last look, each once. */
  pinned(): readonly number[] {
    return this.#pinned;
  }

  /** Looks at every pin of every thread: what was retired before and is not found may be used again. */
  refresh(): void {
    this.#look = (this.#look + 1) | 0;
    this.#pins = 0;
    this.#pinned.length = 0;
    for (const slot of this.#held.keys()) this.#note(slot);
    for (let thread = 0; thread < this.#maxThreads; thread++) {
      const area = this.#areasAt + thread * AREA.words;
      const top = Atomics.load(this.#words, area + AREA.pinTop);
      for (let pin = 0; pin < top; pin++) {
        const slot = Atomics.load(this.#words, area + AREA.pins + pin) - 1;
        if (slot === NONE) continue;
        this.#pins++;
        this.#note(slot);
      }
    }
  }

  /** Keeps a slot's record and bytes as they are, as a pin does. */
  hold(slot: number): void {
    this.#held.set(slot, (this.#held.get(slot) ?? 0) + 1);
    this.#note(slot);
  }

  /** Lets go of one hold. */
  unhold(slot: number): void {
    const holds = this.#held.get(slot) ?? 0;
    invariant(holds > 0, `slot ${slot} is not held`);
    if (holds === 1) this.#held.delete(slot);
    else this.#held.set(slot, holds - 1);
  }

  /** Whether the last look found that slot pinned. */
  isPinned(slot: number): boolean {
    return this.#seen[slot] === this.#look;
  }

  #note(slot: number): void {
    if (this.#seen[slot] === this.#look) return;
    this.#seen[slot] = this.#look;
    this.#pinned.push(slot);
  }
}
