import { InferkvError } from '../../base/errors.ts';
import { createRandom } from '../../base/random.ts';
import type { UseListener } from '../../telemetry/use-listener.ts';
import { RequestBatch } from '../request-batch.ts';
import { HotKeys } from './hot-keys.ts';
import { keyedHash, KeySample, type FedCaches } from './key-sample.ts';
import { ShadowCache, type ShadowTotals } from './shadow-cache.ts';

/** References of the sample that the shadows take at one time. */
const BATCH = 1024;
const DEFAULT_TRACKED_KEYS = 2000;
const LEAST_TRACKED_KEYS = 100;
const MOST_SHADOWS = 64;
/** Entries that the smallest shadow holds at least, if it is full. */
const FEWEST_ENTRIES = 128;
/** One of so many references is noted as a candidate for a hot key. */
const NOTED = 32;
/** References between two looks at the hot keys; a multiple of `NOTED`. */
const PERIOD = 1 << 14;
/** Periods after which what was not used any more is no longer tracked: a million references. */
const PERIODS_A_WINDOW = 64;
/** Periods after the rate rose in which newcomers of the sample make their way in, and nothing is counted. */
const WARM_UP_PERIODS = 16;

/** Which caches to imagine. */
export interface WhatIfOptions {
  /** Budgets in bytes, each with each policy. */
  readonly budgets: readonly number[];
  /** Policies by name; `lru+tinylfu` is `lru` behind the admission `tinylfu`. */
  readonly policies: readonly string[];
  /** Chooses the sample, and draws lots for policies that do; should be a secret where keys come from strangers. */
  readonly seed: number;
  /** Keys the sample follows at least, as long as there are so many; 2,000 if left out. */
  readonly minTrackedKeys?: number;
}

/** What a cache would have given. Rates are shares from 0 to 1, `NaN` before anything was asked for. */
export interface WhatIfEstimate {
  readonly policy: string;
  readonly budgetBytes: number;
  /** Entries found; of a chain the blocks of its longest run from the start. */
  readonly hitRate: number;
  /** The same by bytes, and by milliseconds of loading or computing. */
  readonly byteHitRate: number;
  readonly costSavedRate: number;
  /** Different keys that the figures rest on: those of the sample used of late, the hot ones included. */
  readonly trackedKeys: number;
  /** The share of the keys that is in the sample now; at 1 the figures are exact. */
  readonly rate: number;
}

/**
 * Caches of other sizes and policies in miniature, which see a sample of the keys of running traffic.
 *
 * ```
 *   use -> keyed hash -> below the limit?   batch of 1,024 -> every shadow (share of the keys = share of the budget)
 *                     -> hot?               a hit, counted apart
 *                     -> otherwise          counted
 * ```
 *
 * While there are few keys all are in the sample, and the figures are exact; then the limit falls. Every use counts for as many
 * as the sample stands for at that moment. Of a chain the blocks in the sample are a chain again, which ends where the first of
 * them is missing. docs/what-if.md has the errors that were measured.
 *
 * Memory: per shadow at most 6 times the wanted keys (1.5 in most cases), about 60 bytes an entry and what the policy takes, and 50
 * KiB for the sample.
 */
export class WhatIf implements UseListener {
  readonly #sample: KeySample;
  readonly #shadows: readonly ShadowCache[];
  readonly #hot = new HotKeys();
  readonly #batch = new RequestBatch();
  /** What every use needs is at hand here: the sample's limit, halved to fit 31 bits, and its seed. */
  #limit: number;
  readonly #before: number;
  readonly #within: number;
  #untilNoted = NOTED;
  #counts: Counts = noCounts();
  /** Whether every key was in the sample ever since counting began. */
  #isWhole = true;
  /** The counts as they were when a warm-up began, and the period that ends it. */
  #beforeWarmUp: Counts | undefined;
  #warmUntil = 0;
  #periods = 0;
  #isChained = false;

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`, `ERR_INFERKV_POLICY_UNKNOWN` */
  constructor(options: WhatIfOptions) {
    const { budgets, policies, seed, minTrackedKeys = DEFAULT_TRACKED_KEYS } = options;
    assertOptions(budgets, policies, minTrackedKeys);
    this.#shadows = policies.flatMap((policy) =>
      budgets.map((budgetBytes) => new ShadowCache({ policy, budgetBytes, seed })),
    );
    this.#sample = new KeySample(minTrackedKeys, FEWEST_ENTRIES);
    this.#limit = this.#sample.limit / 2;
    const random = createRandom(seed);
    this.#before = random.below(2 ** 32) | 0;
    this.#within = random.below(2 ** 32) | 1;
  }

  /** All that most uses cost: a countdown, a hash and a comparison. */
  wants(identity: number): boolean {
    if (--this.#untilNoted === 0) return true;
    return keyedHash(identity, this.#before, this.#within) >>> 1 < this.#limit;
  }

  used(_key: string, identity: number, sizeBytes: number, costMs: number): void {
    const hash = keyedHash(identity, this.#before, this.#within);
    if (this.#untilNoted === 0 && this.#note(hash, sizeBytes, costMs)) this.#maintain();
    if (hash >>> 1 >= this.#limit || this.#isHot(hash, sizeBytes, costMs)) return;
    this.#batch.add(hash >>> 0, sizeBytes, costMs);
    this.#endRequest();
  }

  usedChain(_keys: readonly string[], identities: ArrayLike<number>, sizeBytes: number, costMs: number): void {
    let isSampled = false;
    let isDue = false;
    this.#isChained ||= identities.length > 1;
    for (let at = 0; at < identities.length; at++) {
      const hash = keyedHash(identities[at] ?? 0, this.#before, this.#within);
      if (--this.#untilNoted === 0 && this.#note(hash, sizeBytes, costMs)) isDue = true;
      if (this.#isHot(hash, sizeBytes, costMs) || hash >>> 1 >= this.#limit) continue;
      this.#batch.add(hash >>> 0, sizeBytes, costMs);
      isSampled = true;
    }
    if (isSampled) this.#endRequest();
    if (isDue) this.#maintain();
  }

  /** What each cache would have given since the beginning, or since `reset`: budgets within policies, as they were given. */
  estimates(): readonly WhatIfEstimate[] {
    this.#replay();
    this.#settle();
    const counts = this.#beforeWarmUp ?? this.#counts;
    const { rate, tracked } = this.#sample;
    return this.#shadows.map((shadow): WhatIfEstimate => ({
      policy: shadow.policy,
      budgetBytes: shadow.budgetBytes,
      ...ratesOf(counts, shadow.totals(), this.#estimator()),
      trackedKeys: Math.max(tracked, shadow.entries()) + this.#hot.length,
      rate,
    }));
  }

  /** Begins to count anew; the shadows keep what lies in them, so nothing has to warm up. */
  reset(): void {
    this.#replay();
    this.#settle();
    for (const shadow of this.#shadows) shadow.reset();
    this.#counts = noCounts();
    if (this.#beforeWarmUp !== undefined) this.#beforeWarmUp = noCounts();
    this.#untilNoted = NOTED;
    this.#isWhole = this.#sample.rate === 1;
  }

  /** Whether a key is hot; counts it if so. */
  #isHot(hash: number, sizeBytes: number, costMs: number): boolean {
    if (!this.#hot.counts(hash)) return false;
    const counts = this.#counts;
    counts.hotUses++;
    counts.hotBytes += sizeBytes;
    counts.hotCostMs += costMs;
    return true;
  }

  /** Lets one use stand for all of its turn; `true` if a period is over, and `maintain` due before the next request. */
  #note(hash: number, sizeBytes: number, costMs: number): boolean {
    const counts = this.#counts;
    this.#untilNoted = NOTED;
    counts.uses += NOTED;
    counts.bytes += NOTED * sizeBytes;
    counts.costMs += NOTED * costMs;
    this.#hot.note(hash);
    return this.#hot.noted >= PERIOD / NOTED;
  }

  #endRequest(): void {
    this.#batch.endRequest(0);
    if (this.#batch.length >= BATCH) this.#replay();
  }

  #replay(): void {
    const batch = this.#batch;
    for (let at = 0; at < batch.length; at++) this.#sample.note(batch.ids[at] ?? 0);
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
  #estimator(): Estimator {
    return this.#isChained || this.#isWhole ? 'share of hits' : 'misses';
  }

  #resample(change: () => void): void {
    this.#settle();
    change();
    this.#isWhole = false;
    const { rate, limit } = this.#sample;
    this.#limit = limit / 2;
    for (const shadow of this.#shadows) shadow.resample(rate, limit);
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
type Estimator = 'share of hits' | 'misses';

/** Joins what the sample gave with what was counted; hot keys are hits. */
function ratesOf(
  { uses, bytes, costMs, hotUses, hotBytes, hotCostMs }: Counts,
  sampled: Readonly<ShadowTotals>,
  estimator: Estimator,
): Pick<WhatIfEstimate, 'hitRate' | 'byteHitRate' | 'costSavedRate'> {
  const rate = (all: number, hot: number, seen: number, found: number): number => {
    if (estimator === 'misses') return Math.max(0, 1 - (seen - found) / all);
    const share = found / seen;
    return hot === 0 ? share : (hot + (all - hot) * share) / all;
  };
  return {
    hitRate: rate(uses, hotUses, sampled.references, sampled.hits),
    byteHitRate: rate(bytes, hotBytes, sampled.bytes, sampled.hitBytes),
    costSavedRate: rate(costMs, hotCostMs, sampled.costMs, sampled.savedMs),
  };
}

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` */
function assertOptions(budgets: readonly number[], policies: readonly string[], minTrackedKeys: number): void {
  const faults = [
    (budgets.length === 0 || policies.length === 0) && 'it needs a budget and a policy at least',
    budgets.length * policies.length > MOST_SHADOWS && `${MOST_SHADOWS} pairs of budget and policy are the most`,
    ...budgets.map((budget) => !(budget >= 1 && Number.isFinite(budget)) && `a budget of ${budget} holds nothing`),
    !(Number.isSafeInteger(minTrackedKeys) && minTrackedKeys >= LEAST_TRACKED_KEYS) &&
      `minTrackedKeys must be a whole number from ${LEAST_TRACKED_KEYS} on`,
  ].filter((fault) => fault !== false);
  if (faults.length === 0) return;
  throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `The what-if is not valid: ${faults.join('; ')}.`);
}

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`, `ERR_INFERKV_POLICY_UNKNOWN` */
export function createWhatIf(options: WhatIfOptions): WhatIf {
  return new WhatIf(options);
}
