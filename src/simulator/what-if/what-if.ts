import { InferkvError } from '../../base/errors.ts';
import { createRandom } from '../../base/random.ts';
import type { UseListener } from '../../telemetry/use-listener.ts';
import { RequestBatch } from '../request-batch.ts';
import { HOT_PLACES, HotKeys } from './hot-keys.ts';
import { keyedHash, KeySample, type FedCaches } from './key-sample.ts';
import { ShadowCache, type ShadowTotals } from './shadow-cache.ts';

/** References of the sample that the shadows take at one time. */
const BATCH = 256;
const DEFAULT_TRACKED_KEYS = 2000;
const LEAST_TRACKED_KEYS = 100;
const MOST_SHADOWS = 64;
/** Entries that the smallest shadow holds at least, if it is full. */
const FEWEST_ENTRIES = 128;
/** One of so many references is noted as a candidate for a hot key. */
const NOTED = 16;
/** References between two looks at the hot keys; a multiple of `NOTED`. */
const PERIOD = 1 << 14;
/** Periods after which what was not used any more is no longer tracked: a million references. */
const PERIODS_A_WINDOW = 64;
/** Periods after the rate rose in which newcomers of the sample make their way in, and nothing is counted. */
const WARM_UP_PERIODS = 16;

/** Places of the counts: of all keys, and `HOT` further on of the hot ones among them. */
const REFERENCES = 0;
const BYTES = 1;
const COST = 2;
const HOT = 3;
const HOT_REFERENCES = REFERENCES + HOT;
const HOT_BYTES = BYTES + HOT;
const HOT_COST = COST + HOT;
const COUNTS = 6;

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
 *   use -> keyed hash -> hot?            counted as a hit, one by one
 *                     -> below limit?    batch of 256 -> every shadow (share of the keys = share of the budget)
 *                     -> otherwise       counted
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
  /** What every use needs is at hand here: the sample's limit, halved to fit 31 bits, its seed, and the hot keys. */
  #limit: number;
  readonly #before: number;
  readonly #within: number;
  readonly #hotHashes: Int32Array;
  #untilNoted = NOTED;
  /** Counted use by use, whatever the sample. */
  #counts = new Float64Array(COUNTS);
  /** The counts as they were when a warm-up began, and the period that ends it. */
  #beforeWarmUp: Float64Array<ArrayBuffer> | undefined;
  #warmUntil = 0;
  #periods = 0;
  #isDue = false;
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
    this.#hotHashes = this.#hot.hashes;
  }

  used(_key: string, identity: number, sizeBytes: number, costMs: number): void {
    if (this.#refer(identity, sizeBytes, costMs)) this.#endRequest();
    if (this.#isDue) this.#maintain();
  }

  usedChain(_keys: readonly string[], identities: ArrayLike<number>, sizeBytes: number, costMs: number): void {
    let isSampled = false;
    this.#isChained ||= identities.length > 1;
    for (let at = 0; at < identities.length; at++) {
      if (this.#refer(identities[at] ?? 0, sizeBytes, costMs)) isSampled = true;
    }
    if (isSampled) this.#endRequest();
    if (this.#isDue) this.#maintain();
  }

  /** What each cache would have given since the beginning, or since `reset`: budgets within policies, as they were given. */
  estimates(): readonly WhatIfEstimate[] {
    this.#replay();
    this.#settle();
    const exact = this.#beforeWarmUp ?? this.#counts;
    const { rate, tracked } = this.#sample;
    return this.#shadows.map((shadow): WhatIfEstimate => ({
      policy: shadow.policy,
      budgetBytes: shadow.budgetBytes,
      ...ratesOf(exact, shadow.totals(), this.#isChained),
      trackedKeys: Math.max(tracked, shadow.entries()) + this.#hot.length,
      rate,
    }));
  }

  /** Begins to count anew; the shadows keep what lies in them, so nothing has to warm up. */
  reset(): void {
    this.#replay();
    this.#settle();
    for (const shadow of this.#shadows) shadow.reset();
    this.#counts.fill(0);
    this.#beforeWarmUp?.fill(0);
  }

  /** Counts a use; `true` if it is one of the sample, and waits in the batch. All that most uses cost is in here. */
  #refer(identity: number, sizeBytes: number, costMs: number): boolean {
    const hash = keyedHash(identity, this.#before, this.#within);
    const counts = this.#counts;
    counts[REFERENCES] = (counts[REFERENCES] ?? 0) + 1;
    counts[BYTES] = (counts[BYTES] ?? 0) + sizeBytes;
    counts[COST] = (counts[COST] ?? 0) + costMs;
    if (--this.#untilNoted === 0) this.#note(hash);
    const place = hash & (HOT_PLACES - 1);
    if (this.#hotHashes[place] === hash) {
      this.#hot.count(place);
      counts[HOT_REFERENCES] = (counts[HOT_REFERENCES] ?? 0) + 1;
      counts[HOT_BYTES] = (counts[HOT_BYTES] ?? 0) + sizeBytes;
      counts[HOT_COST] = (counts[HOT_COST] ?? 0) + costMs;
      return false;
    }
    if (hash >>> 1 >= this.#limit) return false;
    this.#batch.add(hash >>> 0, sizeBytes, costMs);
    return true;
  }

  #note(hash: number): void {
    this.#untilNoted = NOTED;
    this.#hot.note(hash);
    // Not at once: this may be the middle of a chain.
    if (this.#hot.noted >= PERIOD / NOTED) this.#isDue = true;
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
    this.#isDue = false;
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
    this.#beforeWarmUp ??= this.#counts.slice();
    this.#warmUntil = this.#periods + WARM_UP_PERIODS;
  }

  #resample(change: () => void): void {
    this.#settle();
    change();
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

/**
 * Joins what the sample gave with what was counted. Hot keys are hits. Of the others the sample tells the misses, since a
 * popular key that happens to be in it, or not, is no miss either way; of chains the share of hits, since there most
 * keys are used once and popular ones are few (docs/what-if.md).
 */
function ratesOf(
  exact: Float64Array,
  sampled: Readonly<ShadowTotals>,
  isChained: boolean,
): Pick<WhatIfEstimate, 'hitRate' | 'byteHitRate' | 'costSavedRate'> {
  const rate = (name: number, seen: number, found: number): number => {
    const all = exact[name] ?? 0;
    const hot = exact[name + HOT] ?? 0;
    const cold = all - hot;
    const hits = isChained ? found * (cold / Math.max(1, seen)) : Math.max(0, cold - (seen - found));
    return (hot + hits) / all;
  };
  return {
    hitRate: rate(REFERENCES, sampled.references, sampled.hits),
    byteHitRate: rate(BYTES, sampled.bytes, sampled.hitBytes),
    costSavedRate: rate(COST, sampled.costMs, sampled.savedMs),
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
