import { InferkvError } from '../base/errors.ts';
import type { EntryFacts, Key } from './partition.ts';

/**
 * Bytes an entry takes besides its value: its key (up to 96 characters; measured with digests of 64), its place in the index, in the columns of
 * facts and in the policy. Arrays double, so what it takes varies with the number of entries: measured, 197 on average and
 * 228 right after a doubling with `lru`, 242 and 283 with the hungriest policies (`npm run bench -- core`, `entry_overhead_bytes`).
 */
export const ENTRY_OVERHEAD_BYTES = 256;

/** Bytes besides for an entry that has tags or a tenant, and for each tag: its place among the tag's entries. */
export const EXTRAS_OVERHEAD_BYTES = 96;
export const TAG_OVERHEAD_BYTES = 40;

// Keys up to this length are within what every entry is charged for; a further character takes two bytes at most.
const CHARGED_KEY_LENGTH = 96;

/** Bytes that are charged for an entry besides its value. */
export function overheadOf(key: Key, tags: readonly string[] | undefined, hasTenant: boolean): number {
  const keyBytes = key.length > CHARGED_KEY_LENGTH ? 2 * (key.length - CHARGED_KEY_LENGTH) : 0;
  if (tags === undefined && !hasTenant) return ENTRY_OVERHEAD_BYTES + keyBytes;
  const tagBytes = TAG_OVERHEAD_BYTES * (tags?.length ?? 0);
  return ENTRY_OVERHEAD_BYTES + keyBytes + EXTRAS_OVERHEAD_BYTES + tagBytes;
}

/** @throws InferkvError `ERR_INFERKV_FACTS_INVALID` for a size, cost or time to live that cannot be */
export function checkFacts(key: Key, facts: EntryFacts): void {
  const { sizeBytes, costMs, ttlMs } = facts;
  checkSize(key, sizeBytes);
  if (!(costMs >= 0 && costMs < Number.POSITIVE_INFINITY)) {
    throw invalid(key, 'costMs', costMs, 'milliseconds from 0 up');
  }
  if (ttlMs !== undefined && !(ttlMs >= 0)) throw invalid(key, 'ttlMs', ttlMs, 'milliseconds from 0 up, or Infinity');
}

/** @throws InferkvError `ERR_INFERKV_FACTS_INVALID` */
export function checkSize(key: Key, sizeBytes: number): void {
  if (!isSize(sizeBytes)) throw invalid(key, 'sizeBytes', sizeBytes, 'a whole number of bytes from 0 up');
}

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for limits that no partition can have */
export function checkLimits(limits: {
  readonly name: string;
  readonly budgetBytes: number;
  readonly maxEntryBytes?: number | undefined;
  readonly ttlMs?: number | undefined;
  readonly maxTenantBytes?: number | undefined;
  readonly quotas?: Readonly<Record<string, number>> | undefined;
}): void {
  const { name, budgetBytes, maxEntryBytes, ttlMs, maxTenantBytes, quotas = {} } = limits;
  const faults = [
    !(isSize(budgetBytes) && budgetBytes > 0) && `budgetBytes is ${budgetBytes}`,
    maxEntryBytes !== undefined && !(maxEntryBytes > 0) && `maxEntryBytes is ${maxEntryBytes}`,
    ttlMs !== undefined && !(ttlMs >= 0) && `ttlMs is ${ttlMs}`,
    maxTenantBytes !== undefined && !(maxTenantBytes > 0) && `maxTenantBytes is ${maxTenantBytes}`,
    ...Object.entries(quotas).map(([tenant, bytes]) => !(bytes > 0) && `the quota of ${tenant} is ${bytes}`),
  ].filter((fault) => fault !== false);
  if (faults.length === 0) return;
  throw new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    `The partition ${name} cannot be: ${faults.join(', ')}; give whole bytes above zero, and times from zero up.`,
    { key: name },
  );
}

function isSize(bytes: number): boolean {
  return Number.isSafeInteger(bytes) && bytes >= 0;
}

function invalid(key: Key, name: string, value: unknown, wanted: string): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_FACTS_INVALID',
    `The entry cannot be kept: its ${name} is ${String(value)}; it must be ${wanted}.`,
    { key },
  );
}
