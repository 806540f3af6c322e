import { formatBytes } from '../../base/bytes.ts';
import { InferkvError } from '../../base/errors.ts';
import { MAX_ENTRIES } from './hits.ts';
import { layoutOf, UNIT_BYTES, type Layout } from './layout.ts';

/** Sizes of a store, as its maker asks for them. */
export interface StoreSizes {
  /** Bytes of everything: values, records, index and the areas of threads. */
  readonly budgetBytes: number;
  /** Longest segment; no entry is longer. 1 GiB if left out, 4 GiB at most. */
  readonly segmentBytes?: number;
  /** Entries there is a record for. A 16,384th of the budget if left out, at least 256. */
  readonly maxEntries?: number;
  /** Threads that may be attached at a time, the owner included; 32 if left out. */
  readonly maxThreads?: number;
  /** Memory that a thread that writes has in advance. 4 MiB if left out, but no more than a 64th of the budget. */
  readonly grantBytes?: number;
}

/** Sizes as they come out. */
export interface PlannedSizes {
  readonly layout: Layout;
  readonly segmentCount: number;
  readonly segmentUnits: number;
  readonly standingUnits: number;
}

const DEFAULT_SEGMENT_BYTES = 2 ** 30;
// A length must fit in 32 bits.
const MAX_SEGMENT_BYTES = 2 ** 32 - UNIT_BYTES;
const MAX_SEGMENTS = 2 ** 16;
const BYTES_AN_ENTRY = 16 * 1024;
const MIN_ENTRIES = 256;
const DEFAULT_THREADS = 32;
const MAX_THREADS = 1024;
const DEFAULT_GRANT_BYTES = 4 * 2 ** 20;
const GRANT_SHARE = 64;
const MIN_SEGMENT_UNITS = 64;

/**
 * Divides a budget: control memory first, what is left in equal segments.
 *
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for sizes that cannot be
 */
export function planSizes(sizes: StoreSizes): PlannedSizes {
  const { budgetBytes } = sizes;
  whole('budgetBytes', budgetBytes, 1, Number.MAX_SAFE_INTEGER);
  const maxEntries = whole('maxEntries', sizes.maxEntries ?? recordsFor(budgetBytes, BYTES_AN_ENTRY), 1, MAX_ENTRIES);
  const maxThreads = whole('maxThreads', sizes.maxThreads ?? DEFAULT_THREADS, 1, MAX_THREADS);
  const maxSegment = whole(
    'segmentBytes',
    sizes.segmentBytes ?? DEFAULT_SEGMENT_BYTES,
    MIN_SEGMENT_UNITS * UNIT_BYTES,
    MAX_SEGMENT_BYTES,
  );
  const layout = layoutOf({ maxEntries, maxThreads });
  const units = Math.floor((budgetBytes - layout.controlBytes) / UNIT_BYTES);
  const segmentCount = Math.ceil(units / Math.floor(maxSegment / UNIT_BYTES));
  const segmentUnits = Math.floor(units / segmentCount);
  if (units < MIN_SEGMENT_UNITS || segmentCount > MAX_SEGMENTS) {
    throw invalid(
      `a budget of ${formatBytes(budgetBytes)} cannot be divided: records for ${maxEntries} entries and ${maxThreads} threads take ${formatBytes(layout.controlBytes)} of it; raise it, or lower maxEntries or maxThreads`,
    );
  }
  const grantBytes = whole('grantBytes', sizes.grantBytes ?? DEFAULT_GRANT_BYTES, UNIT_BYTES, MAX_SEGMENT_BYTES);
  const share = Math.max(1, Math.floor(units / GRANT_SHARE));
  return { layout, segmentCount, segmentUnits, standingUnits: Math.min(Math.ceil(grantBytes / UNIT_BYTES), share) };
}

/** Records for a budget of entries that take so many bytes on average; no more than there can be. */
export function recordsFor(budgetBytes: number, bytesAnEntry: number): number {
  return Math.min(MAX_ENTRIES, Math.max(MIN_ENTRIES, Math.floor(budgetBytes / bytesAnEntry)));
}

function whole(name: string, value: number, min: number, max: number): number {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw invalid(`${name} is ${value} and must be a whole number from ${min} to ${max}`);
}

function invalid(why: string): InferkvError {
  return new InferkvError('ERR_INFERKV_CONFIG_INVALID', `The shared memory store cannot be made: ${why}.`);
}
