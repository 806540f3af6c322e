import { createAdmission, createPolicy } from '../../policies/registry.ts';
import { ReplayCache, type ReplayCounts } from '../replay-cache.ts';
import type { RequestBatch } from '../request-batch.ts';

/** What a shadow cache found of the sample, as if there had been no sampling. */
export interface ShadowTotals {
  references: number;
  hits: number;
  bytes: number;
  hitBytes: number;
  costMs: number;
  savedMs: number;
}

/** Which cache a shadow stands for. */
export interface ShadowCacheOptions {
  /** A policy, or with its admission `lru+tinylfu`. */
  readonly policy: string;
  readonly budgetBytes: number;
  readonly seed: number;
}

/**
 * A small cache that stands for a large one: it sees a share of the keys, all uses of each, and has that share of the budget.
 *
 * Source: Waldspurger et al., "Cache modeling and optimization using miniature simulations", USENIX ATC 2017,
 * https://www.usenix.org/conference/atc17/technical-sessions/presentation/waldspurger
 */
export class ShadowCache {
  readonly policy: string;
  readonly budgetBytes: number;
  readonly #cache: ReplayCache;
  #totals: ShadowTotals = zeros();
  #counted: ReplayCounts = zeros();

  constructor({ policy, budgetBytes, seed }: ShadowCacheOptions) {
    const [eviction = '', admission] = policy.split(/\+(.*)/);
    this.policy = policy;
    this.budgetBytes = budgetBytes;
    this.#cache = new ReplayCache({
      budget: budgetBytes,
      unitSizes: false,
      policy: (context) => createPolicy(eviction, context),
      admission: admission === undefined ? undefined : (context) => createAdmission(admission, context),
      seed,
    });
  }

  /** Keys that lie in it. */
  entries(): number {
    return this.#cache.entries();
  }

  replay(batch: RequestBatch): void {
    this.#cache.replay(batch);
  }

  /** Takes what was counted since the last call into the totals, each for as many as `rate` says, or drops it. */
  settle(rate: number, counts: boolean): void {
    const now = this.#cache.counts();
    const before = this.#counted;
    this.#counted = now;
    if (!counts) return;
    const totals = this.#totals;
    for (const name of Object.keys(totals) as (keyof ShadowTotals)[]) totals[name] += (now[name] - before[name]) / rate;
  }

  /** What was found up to the last `settle`. */
  totals(): Readonly<ShadowTotals> {
    return this.#totals;
  }

  /** Stands for the same cache by another share of the keys: those whose hash is below the limit. */
  resample(rate: number, limit: number): void {
    this.#cache.keepBelow(limit);
    this.#cache.setBudget(this.budgetBytes * rate);
  }

  /** Begins to count anew; what lies in it stays. */
  reset(): void {
    this.#totals = zeros();
  }
}

function zeros(): ShadowTotals {
  return { references: 0, hits: 0, bytes: 0, hitBytes: 0, costMs: 0, savedMs: 0 };
}
