import { join } from 'node:path';

import { disown, isAbandoned, makeOwnFolderName } from '../base/process-folder.ts';
import type { FileLayer } from './file-layer.ts';
import {
  FILE_ID_BYTES,
  isLater,
  readFrames,
  type JournalEntry,
  type Ordered,
  type PutEntry,
} from './journal-frames.ts';

/** Whose a journal is, by the name of its folder. */
export interface Owners {
  /** A name for a folder of this process. */
  make(): string;
  /** Whether whoever made a folder of that name is gone; `undefined` if the name is no such. */
  isAbandoned(name: string): boolean | undefined;
  /** Gives a folder of this process up. */
  disown(name: string): void;
}

/** The processes of this machine. */
export const machineOwners: Owners = { make: makeOwnFolderName, isAbandoned, disown };

/** What was found in the journals of processes that are gone. */
export interface Adopted {
  /** Writes that are not done, file by file. */
  readonly files: readonly AdoptedFile[];
  /** Where they lie, to be let go of once they lie elsewhere. */
  readonly folders: readonly string[];
  /** The greatest sequence of any entry; 0 if there is none. */
  readonly lastSequence: number;
  readonly damagedBytes: number;
  /** Writes that nobody wants any more by their expiry. */
  readonly expired: number;
}

/** A file with writes that are not done. */
export interface AdoptedFile {
  readonly path: string;
  readonly fileId: Uint8Array;
  /** Where in it the frames of those writes begin. */
  readonly at: ReadonlySet<number>;
}

interface Place extends Ordered {
  readonly path: string;
  readonly fileId: Uint8Array;
  readonly at: number;
  readonly expiresAtMs: number;
}

const ADOPTED = 'adopted-';
const GONE = 'gone-';
const FILE_NAME = /^\d{8}-(?<id>[0-9a-f]{16})[.]journal$/;

/** The name of a journal's file. */
export function journalFileName(number: number, fileId: Uint8Array): string {
  return `${String(number).padStart(8, '0')}-${Buffer.from(fileId).toString('hex')}.journal`;
}

/** What identifies a record among all that a journal may hold. */
export function keyOf({ target, name }: Pick<JournalEntry, 'target' | 'name'>): string {
  return `${target}\n${name}`;
}

/**
 * Takes over the folders of processes that are gone. Each becomes part of this process's own, by one renaming, so that no two
 * take over the same one, and so that it is taken over again if this process goes, too.
 */
export async function adopt(
  layer: FileLayer,
  {
    root,
    own,
    owners,
    nowMs,
  }: { readonly root: string; readonly own: string; readonly owners: Owners; readonly nowMs: number },
): Promise<Adopted> {
  const folders: string[] = [];
  for (const name of await layer.list(root)) {
    if (name.startsWith(GONE)) await layer.removeFolder(join(root, name)).catch(() => undefined);
    if (owners.isAbandoned(name) !== true) continue;
    const adopted = join(own, `${ADOPTED}${name}`);
    try {
      await layer.rename(join(root, name), adopted);
    } catch {
      // Another process was faster.
      continue;
    }
    folders.push(adopted);
  }
  const reading = new Reading(nowMs);
  for (const folder of folders) await readFolder(layer, folder, reading);
  return reading.result(folders);
}

/**
 * Lets go of a folder at once, however many files are in it: a crash in the midst of removing them could otherwise leave
 * writes there without the notes that they are done.
 */
export async function letGo(layer: FileLayer, parent: string, name: string): Promise<void> {
  const gone = join(parent, `${GONE}${name}`);
  await layer.rename(join(parent, name), gone);
  await layer.syncFolder(parent);
  await layer.removeFolder(gone);
}

async function readFolder(layer: FileLayer, folder: string, reading: Reading): Promise<void> {
  for (const name of await layer.list(folder)) {
    const path = join(folder, name);
    // Its owner died while it took that over.
    if (name.startsWith(ADOPTED)) await readFolder(layer, path, reading);
    const id = FILE_NAME.exec(name)?.groups?.['id'];
    if (id === undefined) continue;
    const fileId = Uint8Array.from(Buffer.from(id, 'hex'));
    if (fileId.length === FILE_ID_BYTES) reading.add(path, fileId, await readWhole(layer, path));
  }
}

async function readWhole(layer: FileLayer, path: string): Promise<Uint8Array | undefined> {
  try {
    return await layer.read(path);
  } catch (error) {
    // A disk that has lost a file has lost it; whatever else is wrong may be right at the next start.
    if ((error as NodeJS.ErrnoException).code === 'EIO') return undefined;
    throw error;
  }
}

/** Brings together what several files say of the same names; in which order they are read makes no difference. */
class Reading {
  readonly #nowMs: number;
  readonly #puts = new Map<string, Place[]>();
  readonly #done = new Map<string, Ordered>();
  readonly #void = new Set<string>();
  #lastSequence = 0;
  #damagedBytes = 0;

  constructor(nowMs: number) {
    this.#nowMs = nowMs;
  }

  add(path: string, fileId: Uint8Array, bytes: Uint8Array | undefined): void {
    if (bytes === undefined) return;
    const { frames, damagedBytes } = readFrames(bytes, fileId);
    this.#damagedBytes += damagedBytes;
    for (const { entry, at } of frames) {
      this.#lastSequence = Math.max(this.#lastSequence, entry.sequence);
      if (entry.kind === 'put') this.#addPut(entry, { path, fileId, at });
      else if (entry.kind === 'void') this.#void.add(identityOf(entry));
      else {
        const key = keyOf(entry);
        const known = this.#done.get(key);
        const { sequence, writer } = entry;
        if (known === undefined || isLater(entry, known)) this.#done.set(key, { sequence, writer });
      }
    }
  }

  result(folders: readonly string[]): Adopted {
    const byPath = new Map<string, { readonly fileId: Uint8Array; readonly at: Set<number> }>();
    let expired = 0;
    for (const [key, puts] of this.#puts) {
      const last = this.#lastOf(key, puts);
      if (last === undefined) continue;
      if (last.expiresAtMs <= this.#nowMs) {
        expired++;
        continue;
      }
      const file = byPath.get(last.path) ?? { fileId: last.fileId, at: new Set() };
      file.at.add(last.at);
      byPath.set(last.path, file);
    }
    const files = [...byPath].map(([path, { fileId, at }]) => ({ path, fileId, at }));
    return { files, folders, lastSequence: this.#lastSequence, damagedBytes: this.#damagedBytes, expired };
  }

  #addPut(entry: PutEntry, place: Pick<Place, 'path' | 'fileId' | 'at'>): void {
    const key = keyOf(entry);
    const puts = this.#puts.get(key) ?? [];
    const { sequence, writer, expiresAtMs } = entry;
    puts.push({ sequence, writer, expiresAtMs, ...place });
    this.#puts.set(key, puts);
  }

  /** The last write of a name that was acknowledged, if it is not done. */
  #lastOf(key: string, puts: readonly Place[]): Place | undefined {
    let last: Place | undefined;
    for (const put of puts) {
      if (this.#void.has(`${key}\n${put.sequence}\n${put.writer}`)) continue;
      if (last === undefined || isLater(put, last)) last = put;
    }
    const done = this.#done.get(key);
    return last === undefined || (done !== undefined && !isLater(last, done)) ? undefined : last;
  }
}

function identityOf(entry: JournalEntry): string {
  return `${keyOf(entry)}\n${entry.sequence}\n${entry.writer}`;
}
