import { mkdir, open, readdir, readFile, rename, rm, unlink, type FileHandle } from 'node:fs/promises';

/** A file that is written from its beginning on. */
export interface AppendedFile {
  /** Writes all of the parts, one after the other. */
  append(parts: readonly Uint8Array[]): Promise<void>;
  /** Settles when everything appended before is on the disk itself. */
  sync(): Promise<void>;
  /** Takes off what was appended beyond so many bytes. */
  truncate(lengthBytes: number): Promise<void>;
  close(): Promise<void>;
}

/** The few things that a journal does with files, so that tests can see their order and lose what was not synced. */
export interface FileLayer {
  makeFolder(path: string): Promise<void>;
  /** Makes a file that is not there yet. */
  create(path: string): Promise<AppendedFile>;
  read(path: string): Promise<Uint8Array>;
  /** Some of the bytes of a file; fewer if it ends before. */
  readAt(path: string, at: number, lengthBytes: number): Promise<Uint8Array>;
  /** Names in a folder, sorted; none if it is not there. */
  list(path: string): Promise<readonly string[]>;
  rename(from: string, to: string): Promise<void>;
  /** Settles when the names in a folder are on the disk itself. */
  syncFolder(path: string): Promise<void>;
  remove(path: string): Promise<void>;
  removeFolder(path: string): Promise<void>;
}

/** The machine's files. */
export const systemFiles: FileLayer = {
  makeFolder: async (path) => void (await mkdir(path, { recursive: true })),
  create: async (path) => new SystemFile(await open(path, 'ax')),
  read: (path) => readFile(path),
  readAt: async (path, at, lengthBytes) => {
    const file = await open(path, 'r');
    try {
      const bytes = new Uint8Array(lengthBytes);
      let read = 0;
      while (read < lengthBytes) {
        const { bytesRead } = await file.read(bytes, read, lengthBytes - read, at + read);
        if (bytesRead === 0) break;
        read += bytesRead;
      }
      return bytes.subarray(0, read);
    } finally {
      await file.close();
    }
  },
  list: async (path) => {
    try {
      return (await readdir(path)).toSorted();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  },
  rename: (from, to) => rename(from, to),
  syncFolder: async (path) => {
    const folder = await open(path, 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  },
  remove: (path) => unlink(path),
  removeFolder: (path) => rm(path, { recursive: true, force: true }),
};

class SystemFile implements AppendedFile {
  readonly #file: FileHandle;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  async append(parts: readonly Uint8Array[]): Promise<void> {
    let rest = parts.filter(({ length }) => length > 0);
    while (rest.length > 0) {
      const { bytesWritten } = await this.#file.writev(rest);
      rest = after(rest, bytesWritten);
    }
  }

  sync(): Promise<void> {
    return this.#file.datasync();
  }

  truncate(lengthBytes: number): Promise<void> {
    return this.#file.truncate(lengthBytes);
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** What is left of parts after so many bytes. */
function after(parts: readonly Uint8Array[], bytes: number): Uint8Array[] {
  const rest: Uint8Array[] = [];
  let skip = bytes;
  for (const part of parts) {
    if (skip < part.length) rest.push(part.subarray(skip));
    skip = Math.max(0, skip - part.length);
  }
  return rest;
}
