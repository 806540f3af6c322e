import { homeOf, readDigest, TAG_WORD } from './digest.ts';
import type { Memory } from './handle.ts';
import { CELL, HEADER, KEY_WORDS, PHASE, RECORD } from './layout.ts';
import type { Pins } from './pins.ts';

/** Moments of a lookup at which a test may let the owner act, or the thread die. */
export type LookupStep = 'probing' | 'chosen' | 'pinned' | 'checked';

/** Not there. */
const MISS = -1;
/** Pinned, but another key's or no longer live. */
const OTHER = 0;
const FOUND = 1;
/** The key's own record, but expired or of an earlier epoch. */
const HIDDEN = 2;

// The owner would have to move cells in the midst of each of so many lookups in a row; the next request finds it.
const MAX_ATTEMPTS = 64;
const MAX_REPLACEMENTS = 8;

/**
 * Finds entries and pins them, without waiting for anyone. Any thread, one object a thread.
 *
 * The order is everything here: the pin is set, then the record is found live, and only then is anything else of it read.
 * From the one to the removal of the pin the owner changes nothing of the record but its state, and nothing of its bytes.
 */
export class Lookup {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #doubles: Float64Array<SharedArrayBuffer>;
  readonly #indexAt: number;
  readonly #recordsAt: number;
  readonly #mask: number;
  readonly #saltA: number;
  readonly #saltB: number;
  readonly #pins: Pins;
  readonly #now: () => number;
  readonly #step: ((step: LookupStep) => void) | undefined;
  readonly #key = new Int32Array(KEY_WORDS);
  #pinned = MISS;

  constructor({ words, doubles, layout }: Memory, pins: Pins, now: () => number, step?: (step: LookupStep) => void) {
    this.#words = words;
    this.#doubles = doubles;
    this.#indexAt = layout.indexAt;
    this.#recordsAt = layout.recordsAt;
    this.#mask = layout.cells - 1;
    this.#saltA = words[HEADER.saltA] as number;
    this.#saltB = words[HEADER.saltB] as number;
    this.#pins = pins;
    this.#now = now;
    this.#step = step;
  }

  /** The pin that the last entry found is pinned by; the caller clears it and gives it back. */
  get pin(): number {
    return this.#pinned;
  }

  /**
   * The slot of an entry, which is pinned now; -1 if there is none, and nothing is pinned.
   *
   * @throws InferkvError `ERR_INFERKV_INPUT_INVALID` for what is no digest, `ERR_INFERKV_OVERLOADED` if all pins are set
   */
  find(digest: Uint8Array): number {
    readDigest(digest, this.#key);
    this.#pinned = this.#pins.take();
    let slot = MISS;
    try {
      slot = this.#search(this.#pinned);
    } finally {
      if (slot === MISS) {
        this.#pins.clear(this.#pinned);
        this.#pins.give(this.#pinned);
      }
    }
    return slot;
  }

  #search(pin: number): number {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const version = Atomics.load(this.#words, HEADER.indexVersion);
      const slot = this.#probe(pin);
      if (slot !== MISS) return slot;
      // A cell that was moved meanwhile may have been moved past this lookup.
      if (Atomics.load(this.#words, HEADER.indexVersion) === version) break;
    }
    return MISS;
  }

  #probe(pin: number): number {
    const words = this.#words;
    const tag = this.#key[TAG_WORD] as number;
    let at = homeOf(this.#key, this.#saltA, this.#saltB) & this.#mask;
    for (let probed = 0; probed <= this.#mask; probed++) {
      const cell = this.#indexAt + at * CELL.words;
      this.#step?.('probing');
      let entry = Atomics.load(words, cell + CELL.slot);
      if (entry === 0) return MISS;
      // A replaced record is retired after its cell has the new one, so a cell that still says the same has moved on.
      for (let looked = 0; looked < MAX_REPLACEMENTS && entry !== 0 && words[cell + CELL.tag] === tag; looked++) {
        const verdict = this.#pin(pin, entry - 1);
        if (verdict === FOUND) return entry - 1;
        this.#pins.clear(pin);
        if (verdict === HIDDEN) return MISS;
        const now = Atomics.load(words, cell + CELL.slot);
        if (now === entry) break;
        entry = now;
      }
      at = (at + 1) & this.#mask;
    }
    return MISS;
  }

  #pin(pin: number, slot: number): typeof OTHER | typeof FOUND | typeof HIDDEN {
    const words = this.#words;
    const record = this.#recordsAt + slot * RECORD.words;
    this.#step?.('chosen');
    this.#pins.set(pin, slot);
    this.#step?.('pinned');
    if ((Atomics.load(words, record + RECORD.state) & PHASE.mask) !== PHASE.live) return OTHER;
    // From here on the record stands still.
    this.#step?.('checked');
    for (let word = 0; word < KEY_WORDS; word++) {
      if (words[record + RECORD.key + word] !== this.#key[word]) return OTHER;
    }
    const age = ((words[record + RECORD.epoch] as number) - Atomics.load(words, HEADER.epoch)) | 0;
    if (age < 0) return HIDDEN;
    const expiresAt = this.#doubles[(record + RECORD.expiresAt) >> 1] as number;
    return expiresAt === Number.POSITIVE_INFINITY || this.#now() < expiresAt ? FOUND : HIDDEN;
  }
}
