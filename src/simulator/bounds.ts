import { mostHits } from './belady.ts';
import { FootprintBound } from './footprint-bound.ts';
import type { ReferenceLog } from './reference-log.ts';

/** `exact`: the optimum, which a cache that knew the future would reach. `relaxed`: a bound from above that none may reach. */
export type BoundKind = 'exact' | 'relaxed';

/** The bound for one budget. */
export interface BudgetBound {
  readonly budget: number;
  readonly hits: number;
  /** Left out where only hits are bounded. */
  readonly hitBytes?: number;
  readonly savedMs?: number;
}

/** What no policy can exceed, for each budget: Belady's optimum where all entries are of one size, else the footprint bound. */
export function boundsOf(
  log: ReferenceLog,
  budgets: readonly number[],
): { readonly kind: BoundKind | undefined; readonly bounds: readonly BudgetBound[] } {
  if (log.isFull || log.length === 0) return { kind: undefined, bounds: [] };
  const next = log.nextUses();
  const { sizes } = log;
  const [size = 1] = sizes;
  if (sizes.every((each) => each === size)) {
    const bounds = budgets.map((budget): BudgetBound => {
      const hits = mostHits(log, next, Math.floor(budget / size));
      return size === 1 ? { budget, hits } : { budget, hits, hitBytes: hits * size };
    });
    return { kind: 'exact', bounds };
  }
  const relaxed = new FootprintBound(log, next);
  return { kind: 'relaxed', bounds: budgets.map((budget) => ({ budget, ...relaxed.at(budget) })) };
}
