import { idOf, numberOf } from '../fields.ts';
import { TraceFault, type ParserOptions, type TraceFormat, type TraceParser } from '../format.ts';
import { shown } from '../json-line.ts';
import { UNKNOWN, type RequestBatch } from '../request-batch.ts';

const COMMA = 44;
const BLANK = 32;
const QUOTE = 34;
const MS_PER_SECOND = 1000;

/** Which column holds what; -1 for none. */
interface Columns {
  readonly time: number;
  readonly id: number;
  readonly size: number;
  readonly cost: number;
}

/** Without a line of names: time, id, size, and whatever follows is of no interest. */
const USUAL: Columns = { time: 0, id: 1, size: 2, cost: -1 };

const NAMES = {
  time: ['time', 'timestamp', 'clock_time', 'ts'],
  id: ['id', 'obj_id', 'objid', 'object_id', 'key'],
  size: ['size', 'obj_size', 'objsize', 'object_size', 'bytes'],
  cost: ['cost', 'cost_ms', 'latency', 'latency_ms'],
} as const;

class CsvParser implements TraceParser {
  readonly #batch: RequestBatch;
  #columns: Columns | undefined;
  /** Where the fields of the line at hand begin and end, in turns. */
  readonly #ends = new Int32Array(2 * 64);

  constructor(batch: RequestBatch, _options: ParserOptions) {
    this.#batch = batch;
  }

  read(bytes: Buffer, start: number, end: number): void {
    const fields = this.#split(bytes, start, end);
    if (fields === 0) return;
    if (this.#columns === undefined) {
      const names = columnsOf(bytes.toString('utf8', start, end));
      this.#columns = names ?? USUAL;
      if (names !== undefined) return;
    }
    const { time, id, size, cost } = this.#columns;
    if (fields <= Math.max(time, id, size, cost)) {
      throw new TraceFault(`${shown(bytes.toString('latin1', start, end))} has too few columns`);
    }
    const timeMs = time < 0 ? 0 : this.#number('the time', bytes, time) * MS_PER_SECOND;
    const sizeBytes = size < 0 ? UNKNOWN : this.#number('the size', bytes, size);
    const costMs = cost < 0 ? UNKNOWN : this.#number('the cost', bytes, cost);
    this.#batch.add(idOf(bytes, this.#ends[2 * id] ?? 0, this.#ends[2 * id + 1] ?? 0), sizeBytes, costMs);
    this.#batch.endRequest(timeMs);
  }

  #number(what: string, bytes: Buffer, column: number): number {
    return numberOf(what, bytes, this.#ends[2 * column] ?? 0, this.#ends[2 * column + 1] ?? 0);
  }

  /** Finds the fields of a line; gives their number, 0 for an empty line. */
  #split(bytes: Buffer, start: number, end: number): number {
    let fields = 0;
    let from = start;
    while (from <= end && 2 * fields < this.#ends.length) {
      let comma = from;
      while (comma < end && bytes[comma] !== COMMA) comma++;
      let to = comma;
      while (from < to && isPadding(bytes[from] ?? 0)) from++;
      while (to > from && isPadding(bytes[to - 1] ?? 0)) to--;
      this.#ends[2 * fields] = from;
      this.#ends[2 * fields + 1] = to;
      fields++;
      from = comma + 1;
    }
    return fields === 1 && this.#ends[0] === this.#ends[1] ? 0 : fields;
  }
}

function isPadding(byte: number): boolean {
  return byte <= BLANK || byte === QUOTE;
}

/** The columns that a line of names tells, `undefined` if it holds numbers. */
function columnsOf(line: string): Columns | undefined {
  const fields = line.split(',').map((field) => field.replaceAll('"', '').trim().toLowerCase().replaceAll('-', '_'));
  if (fields.some((field) => field !== '' && Number.isFinite(Number(field)))) return undefined;
  const find = (names: readonly string[]): number => fields.findIndex((field) => names.includes(field));
  const columns = { time: find(NAMES.time), id: find(NAMES.id), size: find(NAMES.size), cost: find(NAMES.cost) };
  if (columns.id >= 0) return columns;
  throw new TraceFault(`${shown(line)} names no column "id" (or ${NAMES.id.slice(1).join(', ')})`);
}

/**
 * Columns parted by commas, by name if the first line has names (`time`, `id`, `size`, `cost`), else time in seconds, id,
 * size in bytes. Fields that hold commas are not for ids and sizes, so quotes are only stripped.
 *
 * Source: the CSV traces of libCacheSim, https://github.com/1a1a11a/libCacheSim
 */
export const libCacheSim: TraceFormat = {
  name: 'libcachesim',
  summary: 'CSV: time, id, size; other orders by a first line with names',
  looksLike: (first) => first.includes(',') && !first.trimStart().startsWith('{'),
  parser: (batch, options) => new CsvParser(batch, options),
};
