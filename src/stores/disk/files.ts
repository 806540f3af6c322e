import * as fs from 'node:fs';

/**
 * What the disk store asks of the file system. A layer of its own, so that tests can let it fail, and see what came after
 * what. The plain calls with a descriptor: an object for each file costs a third more for every read.
 */
export interface FileLayer {
  open(path: string, flags: string): Promise<number>;
  close(fd: number): Promise<void>;
  /** Reads until the memory is full or the file ends; gives the bytes read. */
  read(fd: number, memory: readonly Uint8Array[], position: number): Promise<number>;
  /** Writes all of it. */
  write(fd: number, parts: readonly Uint8Array[], position: number): Promise<void>;
  sync(fd: number): Promise<void>;
  /** Its length in bytes; `undefined` where there is no file. */
  lengthOf(path: string): Promise<number | undefined>;
  /** Removes it if it is there. */
  remove(path: string): Promise<void>;
  list(folder: string): Promise<readonly string[]>;
}

type Done<T> = (error: NodeJS.ErrnoException | null, value: T) => void;

function called<T>(run: (done: Done<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    run((error, value) => (error === null ? resolve(value) : reject(error)));
  });
}

type Transfer = (fd: number, parts: readonly Uint8Array[], position: number) => Promise<number>;

const readSome: Transfer = (fd, memory, position) =>
  called((done) => fs.readv(fd, memory, position, (error, count) => done(error, count)));

const writeSome: Transfer = (fd, parts, position) =>
  called((done) => fs.writev(fd, parts, position, (error, count) => done(error, count)));

/** The system moves fewer bytes than asked for when it likes to: the rest is asked for again. */
async function transferAll(
  transfer: Transfer,
  fd: number,
  parts: readonly Uint8Array[],
  position: number,
): Promise<number> {
  const total = parts.reduce((sum, { length }) => sum + length, 0);
  let moved = await transfer(fd, parts, position);
  let count = moved;
  while (moved < total && count > 0) {
    count = await transfer(fd, restOf(parts, moved), position + moved);
    moved += count;
  }
  return moved;
}

function restOf(parts: readonly Uint8Array[], skip: number): readonly Uint8Array[] {
  const rest: Uint8Array[] = [];
  let left = skip;
  for (const part of parts) {
    if (left < part.length) rest.push(left === 0 ? part : part.subarray(left));
    left = Math.max(0, left - part.length);
  }
  return rest;
}

/** The machine's files. */
export const systemFiles: FileLayer = {
  open: (path, flags) => called((done) => fs.open(path, flags, 0o644, done)),
  close: (fd) => called((done) => fs.close(fd, (error) => done(error ?? null, undefined))),
  read: (fd, memory, position) => transferAll(readSome, fd, memory, position),
  async write(fd, parts, position) {
    const total = parts.reduce((sum, { length }) => sum + length, 0);
    const written = await transferAll(writeSome, fd, parts, position);
    if (written < total) throw Object.assign(new Error('The disk took only a part.'), { code: 'ENOSPC' });
  },
  sync: (fd) => called((done) => fs.fdatasync(fd, (error) => done(error, undefined))),
  async lengthOf(path) {
    try {
      return (await fs.promises.stat(path)).size;
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  },
  remove: (path) => fs.promises.rm(path, { force: true }),
  list: (folder) => fs.promises.readdir(folder),
};

/** The code of a system's error: `ENOSPC`. */
export function codeOf(error: unknown): string | number | undefined {
  return error instanceof Error ? (error as Error & { code?: string | number }).code : undefined;
}
