import { endOfWord, idOf, skipBlanks } from '../fields.ts';
import { TraceFault, type TraceFormat } from '../format.ts';
import { shown } from '../json-line.ts';
import { UNKNOWN } from '../request-batch.ts';

const STAR = 42;

/**
 * One block number a line, and nothing else; a line that starts with `*` is a mark between phases.
 *
 * Source: the traces of Jiang and Zhang, "LIRS: an efficient low inter-reference recency set replacement policy",
 * SIGMETRICS 2002, https://doi.org/10.1145/511334.511340
 */
export const lirs: TraceFormat = {
  name: 'lirs',
  summary: 'one id a line',
  looksLike: (first) => /^\s*(\d+\s*$|\*)/.test(first),
  parser: (batch) => ({
    read(bytes, start, end) {
      const from = skipBlanks(bytes, start, end);
      if (from === end || bytes[from] === STAR) return;
      const to = endOfWord(bytes, from, end);
      if (skipBlanks(bytes, to, end) !== end) {
        throw new TraceFault(`${shown(bytes.toString('latin1', start, end))} is more than one id`);
      }
      batch.add(idOf(bytes, from, to), UNKNOWN, UNKNOWN);
      batch.endRequest(0);
    },
  }),
};
