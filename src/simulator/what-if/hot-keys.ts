import { HOT_PLACES as PLACES } from './reference-ring.ts';

const CANDIDATES = 1024;
/** Shares of all references from which on a key is hot at the least. */
const LEAST_SHARE = 1 / 256;
/** Times a hot key is used while the smallest cache is filled anew, so that every policy keeps it. */
const USES_A_TURN = 64;

/**
 * Keys so hot that every cache in question holds them: they are counted one by one and stand outside the sample, where one
 * of them, in or out, would swing every figure. Found among some of the references, confirmed by their exact counts.
 *
 * Takes 11 KiB.
 */
export class HotKeys {
  /** Hashes at the places their low bits name, 0 where none is hot. */
  readonly #hashes: Int32Array;
  readonly #counts = new Uint32Array(PLACES);
  readonly #candidates = new Int32Array(CANDIDATES);
  readonly #scores = new Uint16Array(CANDIDATES);
  #length = 0;
  #noted = 0;

  /** @param hashes 256 places for hot keys, which others may read; two keys that fall on one place are not both found */
  constructor(hashes: Int32Array) {
    this.#hashes = hashes;
  }

  /** Keys that are hot now. */
  get length(): number {
    return this.#length;
  }

  /** Keys noted since the last `update`. */
  get noted(): number {
    return this.#noted;
  }

  /** Whether a key is hot, by its hash; counts the use if so. */
  counts(hash: number): boolean {
    const place = hash & (PLACES - 1);
    if (this.#hashes[place] !== hash || hash === 0) return false;
    this.#counts[place] = (this.#counts[place] ?? 0) + 1;
    return true;
  }

  /** Notes the key of one of the references that stand for all as a candidate. */
  note(hash: number): void {
    this.#noted++;
    const place = (hash >>> 8) & (CANDIDATES - 1);
    const score = this.#scores[place] ?? 0;
    if (this.#candidates[place] === hash) this.#scores[place] = score + 1;
    else if (score > 0) this.#scores[place] = score - 1;
    else {
      this.#candidates[place] = hash;
      this.#scores[place] = 1;
    }
  }

  /**
   * Lets go of what has cooled down and takes in what is hot now.
   *
   * @param references since the last call
   * @param entries entries that the smallest cache in question holds; where they are few, nothing is hot
   */
  update(references: number, entries: number): void {
    const share = Math.max(LEAST_SHARE, USES_A_TURN / entries);
    for (let place = 0; place < PLACES; place++) {
      if (this.#hashes[place] === 0 || (this.#counts[place] ?? 0) >= (references * share) / 2) continue;
      this.#hashes[place] = 0;
      this.#length--;
    }
    this.#counts.fill(0);
    for (let at = 0; at < CANDIDATES; at++) {
      if ((this.#scores[at] ?? 0) >= this.#noted * share) this.#add(this.#candidates[at] ?? 0);
    }
    this.#scores.fill(0);
    this.#noted = 0;
  }

  #add(hash: number): void {
    const place = hash & (PLACES - 1);
    if (this.#hashes[place] !== 0 || hash === 0) return;
    this.#hashes[place] = hash;
    this.#length++;
  }
}
