import { InferkvError, isInferkvError } from '../base/errors.ts';
import { formatBytes } from '../base/bytes.ts';
import { TraceFault, type ParserOptions, type TraceFormat, type TraceParser } from './format.ts';
import { formatOf } from './formats.ts';
import { RequestBatch } from './request-batch.ts';
import { chunksOf } from './trace-file.ts';

const NEWLINE = 10;
const CARRIAGE_RETURN = 13;
/** References after which a batch is handed on. */
const BATCH_REFERENCES = 8192;
/** No trace has longer lines: a chain of a million blocks fits. */
const MAX_LINE_BYTES = 1 << 24;
/** Of the first line, what a format is recognised by. */
const FIRST_LINE_BYTES = 4096;

/** How a file is to be read. */
export interface ReadOptions extends ParserOptions {
  /** The format; what the first line looks like if left out. */
  readonly format?: TraceFormat | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads a trace piece by piece: `onBatch` gets requests in their order, in a batch that is used again afterwards. Memory is
 * bounded by the longest line, 16 MiB at most, however long the file is. Gives the format it had.
 *
 * @throws InferkvError `ERR_INFERKV_TRACE_INVALID` with file and line for what is no record of the format, and what
 * `chunksOf` throws
 */
export async function readTrace(
  path: string,
  options: ReadOptions,
  onBatch: (batch: RequestBatch) => void,
): Promise<TraceFormat> {
  const reader = new RecordReader(path, options, onBatch);
  for await (const chunk of chunksOf(path)) {
    options.signal?.throwIfAborted();
    reader.push(chunk);
  }
  return reader.end();
}

/** Cuts chunks into records, has them parsed, and says where something is wrong. */
class RecordReader {
  readonly #path: string;
  readonly #options: ReadOptions;
  readonly #onBatch: (batch: RequestBatch) => void;
  readonly #batch = new RequestBatch();
  #format: TraceFormat | undefined;
  #parser: TraceParser | undefined;
  /** Pieces of a record whose end has not come yet. */
  #begun: Buffer[] = [];
  #begunBytes = 0;
  #records = 0;

  constructor(path: string, options: ReadOptions, onBatch: (batch: RequestBatch) => void) {
    this.#path = path;
    this.#options = options;
    this.#onBatch = onBatch;
    this.#format = options.format;
    this.#parser = options.format?.parser(this.#batch, options);
  }

  push(chunk: Buffer): void {
    this.#parser ??= this.#recognise(chunk);
    const { recordBytes } = this.#format ?? {};
    if (recordBytes === undefined) this.#pushLines(chunk);
    else this.#pushRecords(chunk, recordBytes);
  }

  end(): TraceFormat {
    if (this.#begunBytes > 0) {
      const rest = Buffer.concat(this.#begun);
      if (this.#format?.recordBytes !== undefined) {
        throw this.#fault(`it ends in the middle of a record (${rest.length} of ${this.#format.recordBytes} bytes)`);
      }
      this.#readLast(rest);
    }
    this.#flush();
    if (this.#format !== undefined && this.#records > 0) return this.#format;
    throw new InferkvError('ERR_INFERKV_TRACE_INVALID', `${this.#path}: it is empty.`, { key: this.#path });
  }

  /** Reads a last line that has no end, which in some formats may be half a record. */
  #readLast(rest: Buffer): void {
    try {
      this.#read(rest, 0, rest.length);
    } catch (error) {
      if (this.#format?.endsAnywhere !== true || !isInferkvError(error, 'ERR_INFERKV_TRACE_INVALID')) throw error;
    }
  }

  #recognise(chunk: Buffer): TraceParser {
    const newline = chunk.indexOf(NEWLINE);
    const end = Math.min(newline < 0 ? chunk.length : newline, FIRST_LINE_BYTES);
    const first = chunk.toString('latin1', 0, end);
    // Numbers of four bytes hold zeros, but not always in the first line.
    const hasZeros = chunk.subarray(0, FIRST_LINE_BYTES).includes(0);
    this.#format = formatOf(this.#path, hasZeros ? `${first}\0` : first);
    return this.#format.parser(this.#batch, this.#options);
  }

  #pushLines(chunk: Buffer): void {
    let from = 0;
    for (let newline = chunk.indexOf(NEWLINE); newline >= 0; newline = chunk.indexOf(NEWLINE, from)) {
      if (this.#begunBytes > 0) {
        const line = Buffer.concat([...this.#begun, chunk.subarray(from, newline)]);
        this.#begun = [];
        this.#begunBytes = 0;
        this.#read(line, 0, line.length);
      } else this.#read(chunk, from, newline);
      from = newline + 1;
    }
    this.#keep(chunk.subarray(from));
  }

  #pushRecords(chunk: Buffer, recordBytes: number): void {
    const bytes = this.#begunBytes > 0 ? Buffer.concat([...this.#begun, chunk]) : chunk;
    this.#begun = [];
    this.#begunBytes = 0;
    let from = 0;
    for (; from + recordBytes <= bytes.length; from += recordBytes) this.#read(bytes, from, from + recordBytes);
    this.#keep(bytes.subarray(from));
  }

  #keep(rest: Buffer): void {
    if (rest.length === 0) return;
    this.#begun.push(rest);
    this.#begunBytes += rest.length;
    if (this.#begunBytes <= MAX_LINE_BYTES) return;
    this.#records++;
    throw this.#fault(`the line has no end within ${formatBytes(MAX_LINE_BYTES)}`);
  }

  #read(bytes: Buffer, start: number, end: number): void {
    this.#records++;
    const isLine = this.#format?.recordBytes === undefined;
    const to = isLine && end > start && bytes[end - 1] === CARRIAGE_RETURN ? end - 1 : end;
    const { length } = this.#batch;
    try {
      this.#parser?.read(bytes, start, to);
    } catch (error) {
      if (error instanceof TraceFault) throw this.#fault(error.message);
      throw error;
    }
    if (length !== this.#batch.length && this.#batch.length >= BATCH_REFERENCES) this.#flush();
  }

  #flush(): void {
    if (this.#batch.requests > 0) this.#onBatch(this.#batch);
    this.#batch.clear();
  }

  #fault(what: string): InferkvError {
    const unit = this.#format?.recordBytes === undefined ? '' : 'record ';
    return new InferkvError(
      'ERR_INFERKV_TRACE_INVALID',
      `${this.#path}:${unit}${this.#records}: ${what}; the trace is read as ${this.#format?.name ?? 'nothing'}.`,
      { key: this.#path },
    );
  }
}
