import { SeenKeys } from './seen-keys.ts';

const HASHES = 2 ** 32;
/** Tracked keys to wanted ones, above which the rate falls, and what it falls by. */
const MOST = 1.5;
const STEP = 0.75;
/** Entries of the largest cache to wanted keys, at most. */
const MOST_ENTRIES = 6;
/** Most that the rate rises by at the end of a window. */
const RISE = 2;

/** The sizes of the caches that a sample feeds. */
export interface FedCaches {
  /** Entries in the smallest one. */
  readonly fewest: number;
  /** Entries in the largest one. */
  readonly most: number;
}

/**
 * 32 well-mixed bits of an identity, as a signed number: one-to-one, and under a seed in two parts, of which the second is odd, so
 * that nobody can choose keys that fall into a sample.
 */
export function keyedHash(identity: number, before: number, within: number): number {
  const hash = Math.imul(identity ^ before, within);
  // What decides is the highest bits, and they depend on all of these.
  return Math.imul(hash ^ (hash >>> 15), 0xc2b2ae35);
}

/**
 * Chooses keys by a keyed hash: one is in the sample if its hash is below a limit, so that all of its uses are seen or none,
 * and a lower limit takes a subset. The limit follows the traffic.
 *
 * Source: Waldspurger et al., "Efficient MRC construction with SHARDS", FAST 2015,
 * https://www.usenix.org/conference/fast15/technical-sessions/presentation/waldspurger
 */
export class KeySample {
  readonly #wanted: number;
  readonly #fewestEntries: number;
  readonly #seen: SeenKeys;
  #limit = HASHES;
  #lastWindow = 0;

  /**
   * @param wanted keys to track at least
   * @param fewestEntries entries that the smallest cache is to keep, whatever is tracked
   */
  constructor(wanted: number, fewestEntries: number) {
    this.#wanted = wanted;
    this.#fewestEntries = fewestEntries;
    this.#seen = new SeenKeys(Math.ceil(MOST * wanted));
  }

  /** Hashes below this, an even number, are in the sample. */
  get limit(): number {
    return this.#limit;
  }

  /** The share of the keys that is in the sample. */
  get rate(): number {
    return this.#limit / HASHES;
  }

  /** Different keys of the sample that were used within this window, or within the last one if those were more. */
  get tracked(): number {
    return Math.max(this.#seen.length, this.#lastWindow);
  }

  /** Notes a key of the sample as used. */
  note(hash: number): void {
    if (this.#seen.length <= MOST * this.#wanted) this.#seen.add(hash);
  }

  /** Whether more is tracked than is wanted, given the caches that the sample feeds. */
  isTooLarge({ fewest, most }: FedCaches): boolean {
    // However different the caches are in size, the largest one bounds the memory.
    if (most > MOST_ENTRIES * this.#wanted) return true;
    return this.#seen.length > MOST * this.#wanted && fewest * STEP >= this.#fewestEntries;
  }

  /** Lowers the limit by a step; only for a sample that is too large. */
  fall(): void {
    this.#limit = 2 * Math.floor((this.#limit * STEP) / 2);
    this.#seen.keepBelow(this.#limit);
    this.#lastWindow = 0;
  }

  /** Begins a new window; `true` if too little was tracked in the one that ends, and the limit should rise. */
  endWindow(): boolean {
    this.#lastWindow = this.#seen.length;
    this.#seen.clear();
    return this.#lastWindow < this.#wanted && this.#limit < HASHES;
  }

  /** Raises the limit as the last window says. */
  rise(): void {
    const factor = Math.min(RISE, (MOST * STEP * this.#wanted) / Math.max(1, this.#lastWindow));
    this.#limit = Math.min(HASHES, 2 * Math.ceil((this.#limit * factor) / 2));
  }
}
