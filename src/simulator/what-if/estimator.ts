import { HotKeys } from './hot-keys.ts';
import { KeySample, type FedCaches } from './key-sample.ts';
import { ENDS, HASH_UNIT, IN_CHAIN, NOTED as IS_NOTED, type ReferenceRing } from './reference-ring.ts';
import { RequestBatch } from '../request-batch.ts';
import { NOTED, type CheckedWhatIf, type WhatIfEstimate } from './options.ts';
import { ShadowCache, type ShadowTotals } from './shadow-cache.ts';

/** References of the sample that the shadows take at one time. */
const BATCH = 1024;
/** Entries that the smallest shadow holds at least, if it is full. */
const FEWEST_ENTRIES = 128;
/** References between two looks at the hot keys; a multiple of `NOTED`. */
const PERIOD = 1 << 14;
/** Periods after which what was not used any more is no longer tracked: a million references. */
const PERIODS_A_WINDOW = 64;
/** Periods after the rate rose in which newcomers of the sample make their way in, and nothing is counted. */
const WARM_UP_PERIODS = 16;

/**
 * What becomes of the uses that are in the sample, on whichever thread: shadow caches replay them, and the sample follows the
 * traffic. Tells the writer of its ring by the ring's memory what is in the sample and what is hot.
 *
 * ```
 *   record -> noted?              stands for all of its turn, and is a candidate for a hot key
 *          -> hot?                a hit, counted apart
 *          -> below the limit?    batch of 1,024 -> every shadow (share of the keys = share of the budget)
 * ```
 */
export class Estimator {
  readonly #ring: ReferenceRing;
  readonly #sample: KeySample;
  readonly #shadows: readonly ShadowCache[];
  readonly #hot: HotKeys;
  readonly #batch = new RequestBatch();
  /** Ids below this are in the sample. */
  #limit = 0;
  #isOpen = false;
  #isDue = false;
  #counts: Counts = noCounts();
  /** Whether every key was in the sample ever since counting began. */
  #isWhole = true;
  /** The counts as they were when a warm-up began, and the period that ends it. */
  #beforeWarmUp: Counts | undefined;
  #warmUntil = 0;
  #periods = 0;
  #isChained = false;

  /** @throws InferkvError `ERR_INFERKV_POLICY_UNKNOWN` */
  constructor({ budgets, policies, seed, minTrackedKeys }: CheckedWhatIf, ring: ReferenceRing) {
    this.#ring = ring;
    this.#hot = new HotKeys(ring.hot);
    this.#shadows = policies.flatMap((policy) =>
      budgets.map((budgetBytes) => new ShadowCache({ policy, budgetBytes, seed })),
    );
    this.#sample = new KeySample(minTrackedKeys, FEWEST_ENTRIES);
    this.#follow();
  }

  /** Takes what is in the ring; gives the number of records. */
  drain(): number {
    return this.#ring.drain(this.#read);
  }

  /** What each cache would have given since the beginning, or since `reset`: budgets within policies, as they were given. */
  estimates(): readonly WhatIfEstimate[] {
    this.drain();
    this.#replay();
    this.#settle();
    const counts = this.#beforeWarmUp ?? this.#counts;
    const { rate, tracked } = this.#sample;
    return this.#shadows.map((shadow): WhatIfEstimate => ({
      policy: shadow.policy,
      budgetBytes: shadow.budgetBytes,
      ...ratesOf(counts, shadow.totals(), this.#basis()),
      trackedKeys: Math.max(tracked, shadow.entries()) + this.#hot.length,
      rate,
    }));
  }

  /** Begins to count anew; the shadows keep what lies in them, so nothing has to warm up. */
  reset(): void {
    this.drain();
    this.#replay();
    this.#settle();
    for (const shadow of this.#shadows) shadow.reset();
    this.#counts = noCounts();
    if (this.#beforeWarmUp !== undefined) this.#beforeWarmUp = noCounts();
    this.#isWhole = this.#sample.rate === 1;
  }

  /** Takes no more. */
  close(): void {
    this.#ring.last = -1;
  }

  readonly #read = (id: number, sizeBytes: number, costMs: number, flags: number): void => {
    const hash = Math.floor(id / HASH_UNIT) | 0;
    if ((flags & IS_NOTED) !== 0) this.#note(hash, sizeBytes, costMs);
    else {
      if ((flags & IN_CHAIN) !== 0) this.#isChained = true;
      // The limit may have fallen since the record was written.
      if (!this.#isHot(hash, sizeBytes, costMs) && id < this.#limit) {
        this.#batch.add(id, sizeBytes, costMs);
        this.#isOpen = true;
      }
    }
    if ((flags & ENDS) !== 0) this.#endRequest();
  };

  /** Whether a key is hot; counts it if so. */
  #isHot(hash: number, sizeBytes: number, costMs: number): boolean {
    if (!this.#hot.counts(hash)) return false;
    const counts = this.#counts;
    counts.hotUses++;
    counts.hotBytes += sizeBytes;
    counts.hotCostMs += costMs;
    return true;
  }

  /** Lets one use stand for all of its turn. */
  #note(hash: number, sizeBytes: number, costMs: number): void {
    const counts = this.#counts;
    counts.uses += NOTED;
    counts.bytes += NOTED * sizeBytes;
    counts.costMs += NOTED * costMs;
    this.#hot.note(hash);
    if (this.#hot.noted >= PERIOD / NOTED) this.#isDue = true;
  }

  #endRequest(): void {
    if (this.#isOpen) this.#batch.endRequest(0);
    this.#isOpen = false;
    if (this.#batch.length >= BATCH) this.#replay();
    if (!this.#isDue) return;
    this.#isDue = false;
    this.#maintain();
  }

  #replay(): void {
    const batch = this.#batch;
    for (let at = 0; at < batch.length; at++) this.#sample.note(Math.floor((batch.ids[at] ?? 0) / HASH_UNIT));
    for (const shadow of this.#shadows) shadow.replay(batch);
    batch.clear();
    while (this.#sample.isTooLarge(this.#fed())) this.#resample(() => this.#sample.fall());
  }

  /** Looks after the sample and the hot keys, between two requests. */
  #maintain(): void {
    this.#replay();
    this.#periods++;
    if (this.#beforeWarmUp !== undefined && this.#periods >= this.#warmUntil) {
      this.#settle();
      this.#counts = this.#beforeWarmUp;
      this.#beforeWarmUp = undefined;
    }
    const { rate } = this.#sample;
    // Where every key is in the sample, none swings it.
    this.#hot.update(PERIOD, rate < 1 ? this.#fed().fewest / rate : 0);
    if (this.#periods % PERIODS_A_WINDOW !== 0 || !this.#sample.endWindow()) return;
    this.#resample(() => this.#sample.rise());
    // Newcomers of the sample are in none of the caches, though they would be; so they come in before anything is counted.
    this.#beforeWarmUp ??= { ...this.#counts };
    this.#warmUntil = this.#periods + WARM_UP_PERIODS;
  }

  /**
   * Of single entries the sample counts misses: a popular key that happens to be in it or not is no miss either way. Of chains it
   * gives the share of hits: most blocks are used once, so misses would vary with every block that is in it or not.
   */
  #basis(): Basis {
    return this.#isChained || this.#isWhole ? 'share of hits' : 'misses';
  }

  #resample(change: () => void): void {
    this.#settle();
    change();
    this.#isWhole = false;
    this.#follow();
    for (const shadow of this.#shadows) shadow.resample(this.#sample.rate, this.#limit);
  }

  /** Tells the writer what is in the sample now; marks have one bit less than hashes. */
  #follow(): void {
    const { limit } = this.#sample;
    this.#limit = limit * HASH_UNIT;
    this.#ring.last = limit / 2 - 1;
  }

  #settle(): void {
    for (const shadow of this.#shadows) shadow.settle(this.#sample.rate, this.#beforeWarmUp === undefined);
  }

  /** Entries of the smallest and the largest shadow. */
  #fed(): FedCaches {
    let fewest = Number.POSITIVE_INFINITY;
    let most = 0;
    for (const shadow of this.#shadows) {
      fewest = Math.min(fewest, shadow.entries());
      most = Math.max(most, shadow.entries());
    }
    return { fewest, most };
  }
}

/** What was counted of all uses, from one of `NOTED` each, and use by use of the hot keys of chains. */
interface Counts {
  uses: number;
  bytes: number;
  costMs: number;
  hotUses: number;
  hotBytes: number;
  hotCostMs: number;
}

function noCounts(): Counts {
  return { uses: 0, bytes: 0, costMs: 0, hotUses: 0, hotBytes: 0, hotCostMs: 0 };
}

/** What the sample tells: its share of hits, or how many misses there are. */
type Basis = 'share of hits' | 'misses';

/** Joins what the sample gave with what was counted; hot keys are hits. */
function ratesOf(
  { uses, bytes, costMs, hotUses, hotBytes, hotCostMs }: Counts,
  sampled: Readonly<ShadowTotals>,
  basis: Basis,
): Pick<WhatIfEstimate, 'hitRate' | 'byteHitRate' | 'costSavedRate'> {
  const rate = (all: number, hot: number, seen: number, found: number): number => {
    if (basis === 'misses') return Math.max(0, 1 - (seen - found) / all);
    const share = found / seen;
    return hot === 0 ? share : (hot + (all - hot) * share) / all;
  };
  return {
    hitRate: rate(uses, hotUses, sampled.references, sampled.hits),
    byteHitRate: rate(bytes, hotBytes, sampled.bytes, sampled.hitBytes),
    costSavedRate: rate(costMs, hotCostMs, sampled.costMs, sampled.savedMs),
  };
}
