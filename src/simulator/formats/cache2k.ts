import type { TraceFormat } from '../format.ts';
import { UNKNOWN } from '../request-batch.ts';

const RECORD_BYTES = 4;

/**
 * Ids of four bytes each, least significant first, and nothing else.
 *
 * Source: the traces of cache2k's benchmarks, https://github.com/cache2k/cache2k-benchmark
 */
export const cache2k: TraceFormat = {
  name: 'cache2k',
  summary: 'binary, four bytes an id',
  recordBytes: RECORD_BYTES,
  looksLike: (first) => first.includes('\0'),
  parser: (batch) => ({
    read(bytes, start) {
      batch.add(bytes.readUInt32LE(start), UNKNOWN, UNKNOWN);
      batch.endRequest(0);
    },
  }),
};
