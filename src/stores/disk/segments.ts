import { existsSync } from 'node:fs';
import { open, readdir, stat, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

import { isAbandoned, makeOwnFolderName } from '../../base/process-folder.ts';
import type { Place } from './entry.ts';
import { SEGMENTS } from './index-db.ts';

const MAX_OPEN = 64;
const SUFFIX = /-(?<number>\d+)\.seg$/;

interface OpenSegment {
  readonly handle: Promise<FileHandle>;
  users: number;
  isClosing: boolean;
}

interface Writing {
  readonly name: string;
  readonly handle: FileHandle;
  /** Bytes that are written or about to be. */
  bytes: number;
  /** Writes under way. */
  users: number;
  /** Nothing more goes there. */
  isOver: boolean;
  isClosed: boolean;
}

/** Files of records, one behind the other. Each is written by one process, from its beginning on, read by all, and goes as a whole. */
export class Segments {
  readonly #folder: string;
  readonly #maxBytes: number;
  readonly #owner: string = makeOwnFolderName();
  readonly #open = new Map<string, OpenSegment>();
  #writing: Promise<Writing> | undefined;
  #number = 0;

  /** @param maxBytes bytes after which a new segment is begun */
  constructor(folder: string, maxBytes: number) {
    this.#folder = join(folder, SEGMENTS);
    this.#maxBytes = maxBytes;
  }

  /** Writes a record; it lies there when this settles, though nobody knows it yet. */
  async append(parts: readonly Uint8Array[], lengthBytes: number, isSynced: boolean): Promise<Place> {
    const writing = await this.#place(lengthBytes);
    const offset = writing.bytes;
    writing.bytes += lengthBytes;
    writing.users++;
    try {
      await writeAll(writing.handle, parts, offset);
      if (isSynced) await writing.handle.datasync();
      return { segment: writing.name, offset, lengthBytes };
    } catch (error) {
      // What is behind it may be written already; nothing more is.
      this.#end(writing);
      if (offset === 0) await this.remove(writing.name).catch(() => undefined);
      throw error;
    } finally {
      writing.users--;
      if (writing.isOver) this.#end(writing);
    }
  }

  /** Reads a record into memory of its length; `false` if it is not there any more as a whole. */
  async read({ segment, offset, lengthBytes }: Place, into: Uint8Array): Promise<boolean> {
    const opened = this.#take(segment, () => open(join(this.#folder, segment), 'r'));
    try {
      const handle = await opened.handle;
      for (let read = 0; read < lengthBytes;) {
        const { bytesRead } = await handle.read(into, read, lengthBytes - read, offset + read);
        if (bytesRead === 0) return false;
        read += bytesRead;
      }
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      return false;
    } finally {
      this.#give(segment, opened);
    }
  }

  /** Takes a segment away; who reads it at this moment reads on. */
  async remove(segment: string): Promise<void> {
    const opened = this.#open.get(segment);
    if (opened !== undefined) this.#close(segment, opened);
    try {
      await unlink(join(this.#folder, segment));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }

  /** Whether this process made it. */
  isOwn(segment: string): boolean {
    return segment.startsWith(`${this.#owner}-`);
  }

  isThere(segment: string): boolean {
    return existsSync(join(this.#folder, segment));
  }

  /** Begins a new segment with the next record. */
  async turn(): Promise<void> {
    const writing = await this.#writing?.catch(() => undefined);
    if (writing !== undefined) this.#end(writing);
  }

  /** Segments on the disk with their bytes, and whether their writer is gone. */
  async list(): Promise<readonly { readonly name: string; readonly bytes: number; readonly isAbandoned: boolean }[]> {
    const listed: { name: string; bytes: number; isAbandoned: boolean }[] = [];
    for (const name of await readdir(this.#folder)) {
      const owner = name.replace(SUFFIX, '');
      if (owner === name) continue;
      try {
        const { size } = await stat(join(this.#folder, name));
        listed.push({ name, bytes: size, isAbandoned: isAbandoned(owner) !== false });
      } catch {
        // It went meanwhile.
      }
    }
    return listed;
  }

  async close(): Promise<void> {
    const writing = await this.#writing?.catch(() => undefined);
    if (writing !== undefined) this.#end(writing);
    const handles = [...this.#open].map(async ([name, opened]) => {
      this.#close(name, opened);
      await opened.handle.catch(() => undefined);
    });
    await Promise.all(handles);
  }

  /** The segment that the next so many bytes go to. */
  async #place(lengthBytes: number): Promise<Writing> {
    for (;;) {
      const current = this.#writing;
      if (current !== undefined) {
        const writing = await current;
        if (!writing.isOver && (writing.bytes === 0 || writing.bytes + lengthBytes <= this.#maxBytes)) return writing;
        this.#end(writing);
      }
      // Whoever comes first begins the next one for all.
      if (this.#writing === current) this.#writing = this.#begin();
    }
  }

  async #begin(): Promise<Writing> {
    const name = `${this.#owner}-${this.#number++}.seg`;
    try {
      const handle = await open(join(this.#folder, name), 'wx');
      return { name, handle, bytes: 0, users: 0, isOver: false, isClosed: false };
    } catch (error) {
      this.#writing = undefined;
      throw error;
    }
  }

  /** Writes no more to a segment, and closes it when what is under way is done. */
  #end(writing: Writing): void {
    writing.isOver = true;
    if (writing.users > 0 || writing.isClosed) return;
    writing.isClosed = true;
    writing.handle.close().catch(() => undefined);
  }

  #take(name: string, make: () => Promise<FileHandle>): OpenSegment {
    const known = this.#open.get(name);
    if (known !== undefined) {
      known.users++;
      // Those used last are at the end.
      this.#open.delete(name);
      this.#open.set(name, known);
      return known;
    }
    const opened = { handle: make(), users: 1, isClosing: false };
    this.#open.set(name, opened);
    opened.handle.catch(() => {
      if (this.#open.get(name) === opened) this.#open.delete(name);
    });
    for (const [each, other] of this.#open) {
      if (this.#open.size <= MAX_OPEN) break;
      if (other.users === 0) this.#close(each, other);
    }
    return opened;
  }

  #give(name: string, opened: OpenSegment): void {
    opened.users--;
    if (opened.isClosing) this.#close(name, opened);
  }

  /** Closes a file as soon as nobody uses it. */
  #close(name: string, opened: OpenSegment): void {
    opened.isClosing = true;
    if (this.#open.get(name) === opened) this.#open.delete(name);
    if (opened.users > 0) return;
    opened.handle.then((handle) => handle.close()).catch(() => undefined);
  }
}

/** Writes parts one behind the other, from a place on. */
async function writeAll(handle: FileHandle, parts: readonly Uint8Array[], offset: number): Promise<void> {
  let rest: Uint8Array[] = parts.filter(({ length }) => length > 0);
  let at = offset;
  while (rest.length > 0) {
    const { bytesWritten } = await handle.writev(rest, at);
    at += bytesWritten;
    let skip = bytesWritten;
    rest = rest.flatMap((part) => {
      const skipped = Math.min(skip, part.length);
      skip -= skipped;
      return skipped === part.length ? [] : [part.subarray(skipped)];
    });
  }
}
