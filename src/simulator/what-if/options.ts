import { InferkvError } from '../../base/errors.ts';

const DEFAULT_TRACKED_KEYS = 2000;
const LEAST_TRACKED_KEYS = 100;
const MOST_SHADOWS = 64;
/** One of so many uses is noted, to stand for all and as a candidate for a hot key. */
export const NOTED = 32;

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
  /**
   * Where the shadows replay: in a thread of their own, so that whoever serves is not kept, or `inline` in the thread that uses
   * the partition, where nothing is ever dropped; `thread` if left out.
   */
  readonly replay?: 'thread' | 'inline';
}

/** Options with nothing left out. */
export type CheckedWhatIf = Required<WhatIfOptions>;

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

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` */
export function checkWhatIf(options: WhatIfOptions): CheckedWhatIf {
  const { budgets, policies, seed, minTrackedKeys = DEFAULT_TRACKED_KEYS, replay = 'thread' } = options;
  const faults = [
    (budgets.length === 0 || policies.length === 0) && 'it needs a budget and a policy at least',
    budgets.length * policies.length > MOST_SHADOWS && `${MOST_SHADOWS} pairs of budget and policy are the most`,
    ...budgets.map((budget) => !(budget >= 1 && Number.isFinite(budget)) && `a budget of ${budget} holds nothing`),
    !(Number.isSafeInteger(minTrackedKeys) && minTrackedKeys >= LEAST_TRACKED_KEYS) &&
      `minTrackedKeys must be a whole number from ${LEAST_TRACKED_KEYS} on`,
  ].filter((fault) => fault !== false);
  if (faults.length === 0) return { budgets, policies, seed, minTrackedKeys, replay };
  throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `The what-if is not valid: ${faults.join('; ')}.`);
}
