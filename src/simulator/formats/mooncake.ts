import { TraceFault, type TraceFormat } from '../format.ts';
import { objectOf, shownValue } from '../json-line.ts';
import { UNKNOWN } from '../request-batch.ts';

/**
 * One JSON object a line: `timestamp` in milliseconds, and in `hash_ids` the chain of blocks of 512 tokens that the prompt
 * consists of; equal ids are equal blocks after equal beginnings. Sizes and costs are not told.
 *
 * Source: Qin et al., "Mooncake: trading more storage for less computation", FAST 2025, https://github.com/kvcache-ai/Mooncake
 */
export const mooncake: TraceFormat = {
  name: 'mooncake',
  summary: 'JSON lines with hash_ids: chains of blocks of 512 tokens',
  looksLike: (first) => first.trimStart().startsWith('{') && first.includes('"hash_ids"'),
  parser: (batch) => ({
    read(bytes, start, end) {
      const line = bytes.toString('utf8', start, end);
      if (line.trim() === '') return;
      const { timestamp, hash_ids: ids } = objectOf(line);
      if (typeof timestamp !== 'number' || !Number.isFinite(timestamp)) throw new TraceFault('timestamp is no number');
      if (!Array.isArray(ids)) throw new TraceFault('hash_ids is no list');
      for (const id of ids as readonly unknown[]) {
        if (!Number.isSafeInteger(id) || (id as number) < 0) {
          throw new TraceFault(`hash_ids holds ${shownValue(id)}, which is no whole number from zero on`);
        }
      }
      for (const id of ids as readonly number[]) batch.add(id, UNKNOWN, UNKNOWN);
      if (ids.length > 0) batch.endRequest(timestamp);
    },
  }),
};
