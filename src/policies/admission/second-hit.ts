import type { Admission, AdmissionContext } from '../admission.ts';

const FIRST_WORDS = 64;
const HASHES = 3;
/** Bits an entry in each of the two filters. */
const WORDS_PER_ENTRY = 1;
/** Different requests an entry after which everything is forgotten: eight bits each, so about 3 in 100 strangers look known. */
const MEMORY_FACTOR = 4;

class SecondHit implements Admission {
  readonly name = 'second-hit';
  readonly #context: AdmissionContext;
  #once = new Int32Array(FIRST_WORDS);
  #again = new Int32Array(FIRST_WORDS);
  #known = 0;

  constructor(context: AdmissionContext) {
    this.#context = context;
  }

  record(identity: number): void {
    if (holds(this.#once, identity)) {
      add(this.#again, identity);
      return;
    }
    if (this.#known >= MEMORY_FACTOR * this.#once.length) this.#forget();
    add(this.#once, identity);
    this.#known++;
  }

  admits(candidate: number): boolean {
    return holds(this.#again, candidate);
  }

  #forget(): void {
    const words = WORDS_PER_ENTRY * this.#context.entries();
    if (words > this.#once.length) {
      // Laid down twice, a filter still holds what it held. More bits, so what is known may stay this time.
      this.#once = twice(this.#once);
      this.#again = twice(this.#again);
      return;
    }
    this.#once.fill(0);
    this.#again.fill(0);
    this.#known = 0;
  }
}

function twice(words: Int32Array): Int32Array<ArrayBuffer> {
  const doubled = new Int32Array(2 * words.length);
  doubled.set(words);
  doubled.set(words, words.length);
  return doubled;
}

// One hash of 32 bits for the word, parts of another for the bits in it: one cache line a question.
function holds(words: Int32Array, identity: number): boolean {
  const bits = bitsOf(identity);
  return ((words[wordOf(identity, words.length)] ?? 0) & bits) === bits;
}

function add(words: Int32Array, identity: number): void {
  const at = wordOf(identity, words.length);
  words[at] = (words[at] ?? 0) | bitsOf(identity);
}

function wordOf(identity: number, words: number): number {
  const mixed = Math.imul(identity ^ (identity >>> 16), 0x85ebca6b);
  return (mixed ^ (mixed >>> 13)) & (words - 1);
}

function bitsOf(identity: number): number {
  let mixed = Math.imul(identity ^ (identity >>> 15), 0x9e3779b1);
  mixed ^= mixed >>> 14;
  let bits = 0;
  for (let hash = 0; hash < HASHES; hash++) bits |= 1 << ((mixed >>> (5 * hash)) & 31);
  return bits;
}

/**
 * Lets in what is asked for the second time, so that what is wanted only once displaces nothing.
 *
 * Remembers eight bytes for each entry of the partition (rounded up to a power of two): two Bloom filters of what was asked
 * for once and more often, started anew after four different requests an entry.
 *
 * Source: Maggs and Sitaraman, "Algorithmic nuggets in content delivery", 2015, https://doi.org/10.1145/2805789.2805800
 */
export function secondHit(context: AdmissionContext): Admission {
  return new SecondHit(context);
}
