import { createHmac } from 'node:crypto';

import { TraceFault, type ParserOptions, type TraceFormat, type TraceParser } from '../format.ts';
import { objectOf, shownValue } from '../json-line.ts';
import { UNKNOWN, type RequestBatch } from '../request-batch.ts';

/** The format's version, in the first line of each file. A reader refuses those it does not know. */
const VERSION = 1;

const ID_DIGITS = 16;
/** Hex digits of an id that a number holds exactly; the rest only tells ids apart for other readers. */
const READ_DIGITS = 13;

/** A request as it is recorded. */
export interface RecordedRequest {
  /** Milliseconds since the recording began. */
  readonly timeMs: number;
  readonly partition: string;
  /** What was asked for, by `recordedId`: one entry, or the blocks of a chain from its root on. */
  readonly ids: readonly string[];
  /** Bytes an entry takes, record overhead included; left out if it is not known. */
  readonly sizeBytes?: number | undefined;
  /** Milliseconds it takes to load or compute an entry; left out if it is not known. */
  readonly costMs?: number | undefined;
}

/**
 * The id under which an entry is recorded: 64 bits of a keyed hash. Without the secret nobody finds the entry's key, nor
 * whether two recordings under different secrets tell of the same one.
 */
export function recordedId(secret: Uint8Array, partition: string, key: string): string {
  // The length in front keeps ("a", "bc") and ("ab", "c") apart.
  const text = `${partition.length}:${partition}${key}`;
  return createHmac('sha256', secret).update(text).digest('hex').slice(0, ID_DIGITS);
}

/** The first line of a file, its end included. `startedAt` is told in whole hours or not at all, as the recorder wants. */
export function encodeHeader(details: { readonly startedAt?: string } = {}): string {
  return `${JSON.stringify({ 'inferkv-trace': VERSION, ...details })}\n`;
}

/** The line of a request, its end included. */
export function encodeRequest({ timeMs, partition, ids, sizeBytes, costMs }: RecordedRequest): string {
  const line = {
    t: round(timeMs),
    p: partition,
    id: ids.length === 1 ? ids[0] : ids,
    ...(sizeBytes !== undefined && { b: sizeBytes }),
    ...(costMs !== undefined && { ms: round(costMs) }),
  };
  return `${JSON.stringify(line)}\n`;
}

function round(ms: number): number {
  return Math.round(1000 * ms) / 1000;
}

class RecordedParser implements TraceParser {
  readonly #batch: RequestBatch;
  readonly #partition: string | undefined;
  #hasHeader = false;

  constructor(batch: RequestBatch, { partition }: ParserOptions) {
    this.#batch = batch;
    this.#partition = partition;
  }

  read(bytes: Buffer, start: number, end: number): void {
    const text = bytes.toString('utf8', start, end);
    if (text.trim() === '') return;
    const line = objectOf(text);
    if (!this.#hasHeader) {
      const version = line['inferkv-trace'];
      if (version !== VERSION) {
        throw new TraceFault(`the first line says version ${shownValue(version)}; this reads version ${VERSION}`);
      }
      this.#hasHeader = true;
      return;
    }
    const { t, p, id, b, ms } = line;
    if (typeof p !== 'string') throw new TraceFault('p (the partition) is no text');
    if (this.#partition !== undefined && p !== this.#partition) return;
    const timeMs = amount('t', t);
    const sizeBytes = b === undefined ? UNKNOWN : amount('b', b);
    const costMs = ms === undefined ? UNKNOWN : amount('ms', ms);
    const ids: readonly unknown[] = Array.isArray(id) ? id : [id];
    for (const each of ids) this.#batch.add(idOf(each), sizeBytes, costMs);
    if (ids.length > 0) this.#batch.endRequest(timeMs);
  }
}

function amount(name: string, value: unknown): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value;
  throw new TraceFault(`${name} is ${shownValue(value)}, which is no number from zero on`);
}

function idOf(id: unknown): number {
  if (typeof id === 'string' && /^[0-9a-f]{16}$/.test(id)) return Number.parseInt(id.slice(0, READ_DIGITS), 16);
  throw new TraceFault(`id holds ${shownValue(id)}, which is not 16 hex digits`);
}

/**
 * What `inferkv` records of its own traffic, one JSON object a line:
 *
 * ```
 *   {"inferkv-trace":1}
 *   {"t":12.5,"p":"results","id":"9f86d081884c7d65","b":4096,"ms":40.3}
 *   {"t":13,"p":"attention","id":["2c26b46b68ffc68f","fcde2b2edba56bf4"],"b":737280,"ms":4.1}
 * ```
 *
 * `t` milliseconds since the start, `p` the partition, `id` what was asked for (a list is a chain of blocks, from its root
 * on), `b` bytes and `ms` milliseconds of each entry. Readers pass over names they do not know, and over a last line that was cut.
 */
export const recorded: TraceFormat = {
  name: 'inferkv',
  summary: 'what inferkv records of its own traffic: JSON lines',
  endsAnywhere: true,
  looksLike: (first) => first.trimStart().startsWith('{') && first.includes('"inferkv-trace"'),
  parser: (batch, options) => new RecordedParser(batch, options),
};
