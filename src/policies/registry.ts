import { InferkvError } from '../base/errors.ts';
import { gdsf } from './gdsf.ts';
import { lfu } from './lfu.ts';
import { lru } from './lru.ts';
import type { Policy, PolicyContext, PolicyFactory } from './policy.ts';

/** A policy's name in configuration. */
export type PolicyName = 'lru' | 'lfu' | 'gdsf';

const policies: Readonly<Record<PolicyName, PolicyFactory>> = { lru, lfu, gdsf };

const policyNames: readonly PolicyName[] = Object.keys(policies) as PolicyName[];

/** @throws InferkvError `ERR_INFERKV_POLICY_UNKNOWN`, which names those there are */
function policyNamed(name: string): PolicyFactory {
  if (Object.hasOwn(policies, name)) return policies[name as PolicyName];
  throw new InferkvError(
    'ERR_INFERKV_POLICY_UNKNOWN',
    `There is no policy "${name}"; there are: ${policyNames.join(', ')}.`,
    { key: name },
  );
}

/** A policy for one partition. */
export function createPolicy(name: string, context: PolicyContext): Policy {
  return policyNamed(name)(context);
}
