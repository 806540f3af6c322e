import { InferkvError } from '../base/errors.ts';
import type { Admission, AdmissionContext, AdmissionFactory } from './admission.ts';
import { always } from './admission/always.ts';
import { secondHit } from './admission/second-hit.ts';
import { tinyLfu } from './admission/tinylfu.ts';
import { arc } from './arc.ts';
import { fifo } from './fifo.ts';
import { gdsf } from './gdsf.ts';
import { lfu } from './lfu.ts';
import { lru } from './lru.ts';
import type { Policy, PolicyContext, PolicyFactory } from './policy.ts';
import { s3Fifo } from './s3-fifo.ts';
import { sieve } from './sieve.ts';
import { wTinyLfu } from './w-tinylfu.ts';

/** A policy's name in configuration. */
export type PolicyName = 'lru' | 'lfu' | 'fifo' | 'sieve' | 's3-fifo' | 'arc' | 'w-tinylfu' | 'gdsf';

/** An admission's name in configuration. */
export type AdmissionName = 'always' | 'tinylfu' | 'second-hit';

const policies: Readonly<Record<PolicyName, PolicyFactory>> = {
  lru,
  lfu,
  fifo,
  sieve,
  's3-fifo': s3Fifo,
  arc,
  'w-tinylfu': wTinyLfu,
  gdsf,
};

const admissions: Readonly<Record<AdmissionName, AdmissionFactory>> = {
  always,
  tinylfu: tinyLfu,
  'second-hit': secondHit,
};

/** Every policy there is, by its name in configuration. */
export const policyNames: readonly PolicyName[] = Object.keys(policies) as PolicyName[];

/** Every admission there is, by its name in configuration. */
export const admissionNames: readonly AdmissionName[] = Object.keys(admissions) as AdmissionName[];

/**
 * A policy for one partition.
 *
 * @throws InferkvError `ERR_INFERKV_POLICY_UNKNOWN`, which names those there are
 */
export function createPolicy(name: string, context: PolicyContext): Policy {
  return named('policy', policies, name)(context);
}

/**
 * An admission for one partition.
 *
 * @throws InferkvError `ERR_INFERKV_POLICY_UNKNOWN`, which names those there are
 */
export function createAdmission(name: string, context: AdmissionContext): Admission {
  return named('admission', admissions, name)(context);
}

function named<T>(what: string, all: Readonly<Record<string, T>>, name: string): T {
  const found = Object.hasOwn(all, name) ? all[name] : undefined;
  if (found !== undefined) return found;
  throw new InferkvError(
    'ERR_INFERKV_POLICY_UNKNOWN',
    `There is no ${what} "${name}"; there are: ${Object.keys(all).join(', ')}.`,
    { key: name },
  );
}
