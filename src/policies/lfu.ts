import { GreedyDual } from './greedy-dual.ts';
import type { Policy, PolicyContext } from './policy.ts';

/**
 * Evicts what was used least often, with dynamic ageing, so that what was popular once does not stay for ever.
 *
 * Source: Arlitt et al., "Evaluating content management techniques for web proxy caches", 2000 (LFU-DA),
 * https://doi.org/10.1145/346000.346003
 */
export function lfu(context: PolicyContext): Policy {
  return new GreedyDual('lfu', context, (_slot, uses) => uses);
}
