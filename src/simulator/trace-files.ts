import { mkdir, open, readdir, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

import { InferkvError, messageOf } from '../base/errors.ts';
import { encodeHeader } from './formats/recorded.ts';

const DEFAULT_FILE_BYTES = 64_000_000;
const DEFAULT_FILES = 8;
const LEAST_FILE_BYTES = 4096;
const NAME = /^trace-\d{8}T\d{9}Z-\d{6}[.]jsonl$/;

/** Where trace files go, and how many there may be. */
export interface TraceFilesOptions {
  readonly folder: string;
  readonly maxFileBytes?: number | undefined;
  readonly maxFiles?: number | undefined;
}

/**
 * Files of a recording, `trace-<start>-<number>.jsonl`, whose names sort by time: each at most so large, at most so many in the
 * folder, those of earlier recordings included. For their owner's eyes only.
 */
export class TraceFiles {
  readonly #folder: string;
  readonly #maxFileBytes: number;
  readonly #maxFiles: number;
  readonly #start = new Date().toISOString().replaceAll(/[-:.]/g, '');
  #number = 0;
  #file: FileHandle | undefined;
  #fileBytes = 0;
  #writtenBytes = 0;

  private constructor({ folder, maxFileBytes = DEFAULT_FILE_BYTES, maxFiles = DEFAULT_FILES }: TraceFilesOptions) {
    this.#folder = folder;
    this.#maxFileBytes = maxFileBytes;
    this.#maxFiles = maxFiles;
  }

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` */
  static async open(options: TraceFilesOptions): Promise<TraceFiles> {
    const { folder, maxFileBytes = DEFAULT_FILE_BYTES, maxFiles = DEFAULT_FILES } = options;
    if (!(maxFileBytes >= LEAST_FILE_BYTES) || !(Number.isSafeInteger(maxFiles) && maxFiles >= 1)) {
      throw new InferkvError(
        'ERR_INFERKV_CONFIG_INVALID',
        `A recording needs files of ${LEAST_FILE_BYTES} bytes at least, and one of them at least.`,
      );
    }
    const files = new TraceFiles(options);
    try {
      await mkdir(folder, { recursive: true });
      await files.#next();
    } catch (error) {
      throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `${folder} cannot be written to: ${messageOf(error)}`, {
        cause: error,
        key: folder,
      });
    }
    return files;
  }

  /** Bytes written, of files that are gone too. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  /** Appends whole lines; where they do not fit, to a new file. Gives the number of those that no file would hold, which are left out. */
  async append(lines: string): Promise<number> {
    const { pieces, leftOut } = piecesOf(lines, this.#maxFileBytes - encodeHeader().length);
    for (const piece of pieces) {
      if (this.#fileBytes + piece.length > this.#maxFileBytes) await this.#next();
      await this.#put(piece);
    }
    return leftOut;
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  async #next(): Promise<void> {
    await this.close();
    const name = `trace-${this.#start}-${String(++this.#number).padStart(6, '0')}.jsonl`;
    this.#file = await open(join(this.#folder, name), 'wx', 0o600);
    this.#fileBytes = 0;
    await this.#put(encodeHeader());
    const traces = (await readdir(this.#folder)).filter((each) => NAME.test(each)).toSorted();
    for (const each of traces.slice(0, Math.max(0, traces.length - this.#maxFiles))) {
      await rm(join(this.#folder, each), { force: true });
    }
  }

  async #put(text: string): Promise<void> {
    // Lines are ASCII but for names of partitions, which are ours and ASCII too.
    await this.#file?.appendFile(text);
    this.#fileBytes += text.length;
    this.#writtenBytes += text.length;
  }
}

/** Cuts lines into pieces that fit a file. */
function piecesOf(lines: string, maxBytes: number): { readonly pieces: readonly string[]; readonly leftOut: number } {
  if (lines.length <= maxBytes) return { pieces: lines === '' ? [] : [lines], leftOut: 0 };
  const each = lines.split(/(?<=\n)/);
  const pieces = each.filter(({ length }) => length <= maxBytes);
  return { pieces, leftOut: each.length - pieces.length };
}
