import { createRandom } from '../../base/random.ts';
import type { UseListener } from '../../telemetry/use-listener.ts';
import { keyedHash } from './key-sample.ts';
import { CHAINED, ENDS_REQUEST, NOTED, UseBatch } from './use-batch.ts';

/** One of so many references stands for all. */
export const NOTED_EVERY = 32;
/** Places for hot keys, as `HotKeys` has them. */
const PLACES = 256;

/** What the filter picks by; follows the caches. */
export interface Picks {
  /** Hashes below this, halved to fit 31 bits, are in the sample. */
  readonly limit: number;
  /** Hashes of hot keys at the places that their low bits name; 0 where there is none. */
  readonly hot: Int32Array;
}

/**
 * Picks out of all uses those that the what-if needs. This is all that most uses cost: a countdown, a hash and a comparison.
 *
 * ```
 *   use -> keyed hash -> below the limit?   into the batch, which goes to the caches when it is full
 *                     -> its turn?          into the batch: it stands for 32
 *                     -> of a chain, hot?   into the batch, to be counted
 * ```
 */
export class UseFilter implements UseListener {
  readonly #before: number;
  readonly #within: number;
  readonly #batch = new UseBatch();
  readonly #onFull: (batch: UseBatch) => void;
  #limit = 2 ** 31;
  #hot: Int32Array = new Int32Array(PLACES);
  #untilNoted = NOTED_EVERY;

  /**
   * @param seed chooses the sample; nobody who does not know it can choose keys that fall into it
   * @param onFull takes what is in the batch, or clears it
   */
  constructor(seed: number, onFull: (batch: UseBatch) => void) {
    const random = createRandom(seed);
    this.#before = random.below(2 ** 32) | 0;
    this.#within = random.below(2 ** 32) | 1;
    this.#onFull = onFull;
  }

  /** Picks by this from now on. */
  follow({ limit, hot }: Picks): void {
    this.#limit = limit;
    this.#hot = hot;
  }

  wants(identity: number): boolean {
    if (--this.#untilNoted === 0) return true;
    return keyedHash(identity, this.#before, this.#within) >>> 1 < this.#limit;
  }

  used(_key: string, identity: number, sizeBytes: number, costMs: number): void {
    const hash = keyedHash(identity, this.#before, this.#within);
    let flags = ENDS_REQUEST;
    if (this.#untilNoted === 0) {
      this.#untilNoted = NOTED_EVERY;
      flags |= NOTED;
    }
    if (this.#batch.add(hash, sizeBytes, costMs, flags)) this.#onFull(this.#batch);
  }

  usedChain(_keys: readonly string[], identities: ArrayLike<number>, sizeBytes: number, costMs: number): void {
    const chained = identities.length > 1 ? CHAINED : 0;
    let isAny = false;
    for (let at = 0; at < identities.length; at++) {
      const hash = keyedHash(identities[at] ?? 0, this.#before, this.#within);
      const isNoted = --this.#untilNoted === 0;
      if (isNoted) this.#untilNoted = NOTED_EVERY;
      const isHot = this.#hot[hash & (PLACES - 1)] === hash;
      if (!isNoted && !isHot && hash >>> 1 >= this.#limit) continue;
      isAny = true;
      if (!this.#batch.add(hash, sizeBytes, costMs, isNoted ? NOTED | chained : chained)) continue;
      this.#batch.mark(ENDS_REQUEST);
      isAny = false;
      this.#onFull(this.#batch);
    }
    if (isAny) this.#batch.mark(ENDS_REQUEST);
  }

  /** Has what was picked so far replayed. */
  flush(): void {
    if (this.#batch.length > 0) this.#onFull(this.#batch);
  }

  /** Begins the turns anew. */
  reset(): void {
    this.#untilNoted = NOTED_EVERY;
  }
}
