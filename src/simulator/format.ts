import type { RequestBatch } from './request-batch.ts';

/** What is wrong with a record of a trace; whoever reads the file says where it stands. */
export class TraceFault extends Error {
  override readonly name = 'TraceFault';
}

/** Reads the records of one file, in their order, into the batch it was made for. */
export interface TraceParser {
  /**
   * Reads one record, `bytes[start]` to before `bytes[end]`: a line without its end, or `recordBytes` of a binary format.
   *
   * @throws TraceFault if it is none
   */
  read(bytes: Buffer, start: number, end: number): void;
}

/** What of a file is to be read. */
export interface ParserOptions {
  /** Only what went to this partition, in formats that know partitions. */
  readonly partition?: string | undefined;
}

/** A format of traces. One file each in `formats/`, with its source. */
export interface TraceFormat {
  readonly name: string;
  /** What `--help` and the documents say of it. */
  readonly summary: string;
  /** Bytes of a record where there are no lines. */
  readonly recordBytes?: number;
  /** `true` if a last line without its end may be half a record, as whoever wrote it was interrupted; it is passed over. */
  readonly endsAnywhere?: boolean;
  /** `true` if a file that starts with this line is likely of this format. */
  looksLike(firstLine: string): boolean;
  parser(batch: RequestBatch, options: ParserOptions): TraceParser;
}
