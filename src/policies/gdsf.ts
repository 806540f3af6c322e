import { GreedyDual } from './greedy-dual.ts';
import type { Policy, PolicyContext } from './policy.ts';

// So that an entry whose cost was too small to measure is still worth more the more it is used and the smaller it is.
const MIN_COST_MS = 1e-3;

/**
 * Evicts what saves the least per byte: measured cost of getting it again, times its uses, over its size.
 *
 * Source: Cherkasova, "Improving WWW proxies performance with greedy-dual-size-frequency caching policy", HPL-98-69, 1998,
 * https://www.hpl.hp.com/techreports/98/HPL-98-69R1.pdf
 */
export function gdsf(context: PolicyContext): Policy {
  return new GreedyDual('gdsf', context, (slot, uses) => {
    const costMs = Math.max(MIN_COST_MS, context.costMs(slot));
    return (uses * costMs) / Math.max(1, context.sizeBytes(slot));
  });
}
