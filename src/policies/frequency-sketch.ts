const FIRST_BLOCKS = 8;
/** 32-bit words a block, eight counters each: one cache line. */
const BLOCK_WORDS = 16;
/** Counters an identity has, in one block. */
const DEPTH = 4;
const MAX_COUNT = 15;
/**
 * Requests an entry after which all counters are halved, and entries a block serves: each entry has eight counters in each
 * quarter. Caffeine takes ten and half the counters; where most is asked for once, as attention blocks are, strangers then
 * weigh more than what is counted (docs/policies.md).
 */
const SAMPLE_FACTOR = 4;
const ENTRIES_PER_BLOCK = 4;

/**
 * How often each identity was asked for lately, estimated: a count-min sketch of 4-bit counters that are halved after
 * four requests an entry. Sixteen bytes an entry it has room for.
 *
 * ```
 *   block = mixed bits of the identity      | 4 words | 4 words | 4 words | 4 words |   one counter of each quarter,
 *                                             the estimate is the lowest of the four
 * ```
 *
 * Estimates are never below the true count (up to 15, since the last halving), and above it only where identities share
 * all four counters. Growing keeps them: the table is laid down twice, and each identity finds its counts in either half.
 *
 * Source: Einziger et al., "TinyLFU: a highly efficient cache admission policy", 2017, https://doi.org/10.1145/3149371
 */
export class FrequencySketch {
  #words = new Int32Array(FIRST_BLOCKS * BLOCK_WORDS);
  #blockMask = FIRST_BLOCKS - 1;
  #counted = 0;

  /** Entries there is room for. */
  get entries(): number {
    return (this.#blockMask + 1) * ENTRIES_PER_BLOCK;
  }

  /** Makes room for that many entries. */
  reserve(entries: number): void {
    while (this.entries < entries) {
      const words = new Int32Array(2 * this.#words.length);
      words.set(this.#words);
      words.set(this.#words, this.#words.length);
      this.#words = words;
      this.#blockMask = 2 * this.#blockMask + 1;
    }
  }

  /** Counts a request. */
  count(identity: number): void {
    const words = this.#words;
    const mixed = mix(identity);
    const block = (mixed & this.#blockMask) * BLOCK_WORDS;
    let picks = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
    picks ^= picks >>> 12;
    let changed = 0;
    for (let quarter = 0; quarter < DEPTH; quarter++) {
      const at = block + 4 * quarter + (picks & 3);
      const shift = picks & 28;
      const word = words[at] ?? 0;
      if (((word >>> shift) & MAX_COUNT) < MAX_COUNT) {
        words[at] = word + (1 << shift);
        changed = 1;
      }
      picks >>>= 5;
    }
    this.#counted += changed;
    if (this.#counted >= SAMPLE_FACTOR * this.entries) this.#halve();
  }

  /** About how often an identity was asked for, up to 15. */
  estimate(identity: number): number {
    const words = this.#words;
    const mixed = mix(identity);
    const block = (mixed & this.#blockMask) * BLOCK_WORDS;
    let picks = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
    picks ^= picks >>> 12;
    let lowest = MAX_COUNT;
    for (let quarter = 0; quarter < DEPTH; quarter++) {
      const count = ((words[block + 4 * quarter + (picks & 3)] ?? 0) >>> (picks & 28)) & MAX_COUNT;
      if (count < lowest) lowest = count;
      picks >>>= 5;
    }
    return lowest;
  }

  #halve(): void {
    const words = this.#words;
    for (let at = 0; at < words.length; at++) words[at] = ((words[at] ?? 0) >>> 1) & 0x77777777;
    this.#counted = Math.floor(this.#counted / 2);
  }
}

// The 32-bit finisher of MurmurHash3 (Austin Appleby, public domain): identities may be counted up.
function mix(identity: number): number {
  let mixed = identity | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
