import { endOfWord, idOf, numberOf, skipBlanks } from '../fields.ts';
import { TraceFault, type TraceFormat } from '../format.ts';
import { shown } from '../json-line.ts';
import { UNKNOWN } from '../request-batch.ts';

const MS_PER_SECOND = 1000;

/**
 * Three numbers a line, parted by blanks: time in seconds, id, size in bytes.
 *
 * Source: the traces of Berger et al., "AdaptSize: orchestrating the hot object memory cache in a content delivery network",
 * NSDI 2017, https://www.usenix.org/conference/nsdi17/technical-sessions/presentation/berger
 */
export const adaptSize: TraceFormat = {
  name: 'adapt_size',
  summary: 'time, id and size a line, parted by blanks',
  looksLike: (first) => /^\s*\d+(?:\.\d+)?\s+\d+\s+\d+\s*$/.test(first),
  parser: (batch) => ({
    read(bytes, start, end) {
      const time = skipBlanks(bytes, start, end);
      if (time === end) return;
      const timeEnd = endOfWord(bytes, time, end);
      const id = skipBlanks(bytes, timeEnd, end);
      const idEnd = endOfWord(bytes, id, end);
      const size = skipBlanks(bytes, idEnd, end);
      const sizeEnd = endOfWord(bytes, size, end);
      if (size === end || skipBlanks(bytes, sizeEnd, end) !== end) {
        throw new TraceFault(`${shown(bytes.toString('latin1', start, end))} is not a time, an id and a size`);
      }
      const timeMs = numberOf('the time', bytes, time, timeEnd) * MS_PER_SECOND;
      batch.add(idOf(bytes, id, idEnd), numberOf('the size', bytes, size, sizeEnd), UNKNOWN);
      batch.endRequest(timeMs);
    },
  }),
};
