import { InferkvError } from '../../base/errors.ts';
import type { Clock, WallClock } from '../../base/clock.ts';
import type { FileLayer } from './files.ts';

/** How a disk store is made. */
export interface DiskStoreOptions {
  /** A folder that is empty, not there yet, or that of a disk store. Several processes may share it. */
  readonly folder: string;
  /** Bytes that everything in the folder may take together; at least 4 MiB. */
  readonly budgetBytes: number;
  /**
   * What is certain once a write is acknowledged. `none`, the default: it survives the end of the process, not that of the
   * machine, where it may be lost but is never taken for something else. `data`: it is on the disk.
   */
  readonly durability?: 'none' | 'data' | undefined;
  /** Records up to that many bytes lie in the index itself; 16,384 if left out. */
  readonly inlineBytes?: number | undefined;
  /** Bytes of a segment file: what is reclaimed at once. A 32nd of the budget, 256 KiB to 64 MiB, if left out. */
  readonly segmentBytes?: number | undefined;
  /** Files held open at a time; 64 if left out. */
  readonly openFiles?: number | undefined;
  /** For timers; the machine's if left out. */
  readonly clock?: Clock | undefined;
  /** For expiry, which outlives the process; the machine's if left out. */
  readonly wallClock?: WallClock | undefined;
  /** Access to files; the machine's if left out. Tests put faults in here. */
  readonly files?: FileLayer | undefined;
}

/** How the budget is divided. */
export interface DiskPlan {
  readonly folder: string;
  readonly budgetBytes: number;
  /** For the index with the small records, a quarter. */
  readonly indexBytes: number;
  /** For segment files. */
  readonly fileBytes: number;
  readonly segmentBytes: number;
  /** Small records that are reclaimed together. */
  readonly generationBytes: number;
  readonly inlineBytes: number;
  readonly maxRecordBytes: number;
  readonly openFiles: number;
  readonly isDurable: boolean;
}

const MIB = 2 ** 20;
const MIN_BUDGET_BYTES = 4 * MIB;
// A value of 64 MB, and the envelope around it.
const MAX_RECORD_BYTES = 65 * MIB;
const MAX_INLINE_BYTES = 32 * 1024;

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` where an option is out of range */
export function planOf(options: DiskStoreOptions): DiskPlan {
  const { folder, budgetBytes, durability = 'none', inlineBytes = 16 * 1024, openFiles = 64 } = options;
  check(typeof folder === 'string' && folder !== '', 'folder', 'a path');
  check(Number.isSafeInteger(budgetBytes) && budgetBytes >= MIN_BUDGET_BYTES, 'budgetBytes', '4 MiB or more');
  check(durability === 'none' || durability === 'data', 'durability', '"none" or "data"');
  check(
    Number.isSafeInteger(inlineBytes) && inlineBytes >= 0 && inlineBytes <= MAX_INLINE_BYTES,
    'inlineBytes',
    '0 to 32768',
  );
  check(Number.isSafeInteger(openFiles) && openFiles >= 4, 'openFiles', '4 or more');
  const indexBytes = Math.floor(budgetBytes / 4);
  const fileBytes = budgetBytes - indexBytes;
  const segmentBytes = options.segmentBytes ?? clamp(Math.floor(budgetBytes / 32), MIB / 4, 64 * MIB);
  check(
    Number.isSafeInteger(segmentBytes) && segmentBytes >= 4096 && segmentBytes <= fileBytes / 8,
    'segmentBytes',
    `4096 to ${Math.floor(fileBytes / 8)} with this budget`,
  );
  return {
    folder,
    budgetBytes,
    indexBytes,
    fileBytes,
    segmentBytes,
    generationBytes: clamp(Math.floor(indexBytes / 32), 32 * 1024, 4 * MIB),
    inlineBytes,
    maxRecordBytes: Math.min(MAX_RECORD_BYTES, Math.floor((fileBytes - segmentBytes) / 3)),
    openFiles,
    isDurable: durability === 'data',
  };
}

function check(holds: boolean, name: string, expected: string): void {
  if (holds) return;
  throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `The disk store's ${name} must be ${expected}.`, { key: name });
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
