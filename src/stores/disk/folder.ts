import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';

import { InferkvError } from '../../base/errors.ts';
import { tell } from '../../telemetry/channels.ts';

/** What says that a folder is a disk store's, and of which form. */
const MARKER = 'inferkv-disk.json';
const FORMAT = 1;
const INDEX = 'index.mdb';
const SEGMENT = /^[0-9a-z]+-[0-9a-f]{16}\.seg$/;
// Of lmdb's files: the first page begins with a header of 24 bytes, then come magic, version, ... (see `metaOf`).
const META_BYTES = 168;
const LMDB_MAGIC = 0xbeef_c0de;
const DEFAULT_PAGE = 4096;

/** The file of the index. */
export function indexPath(folder: string): string {
  return join(folder, INDEX);
}

/** The file of a segment: by its number, and something that no other has, should a number ever be lost and given again. */
export function segmentFile(segment: number, nonce: string): string {
  return `${segment.toString(36)}-${nonce}.seg`;
}

/** Whether a file's name is that of a segment. */
export function isSegmentFile(name: string): boolean {
  return SEGMENT.test(name);
}

/** What no other file or process is called. */
export function newNonce(): string {
  return randomBytes(8).toString('hex');
}

/**
 * Makes the folder ours, or finds that it is. One of another version, or whose index cannot be right, is begun anew: it is a
 * cache. One that is somebody else's is left alone.
 *
 * @throws InferkvError `ERR_INFERKV_STORE_FAILED` where the folder holds what is not ours
 */
export function claimFolder(folder: string): void {
  fs.mkdirSync(folder, { recursive: true });
  const marker = markerOf(folder);
  if (marker === undefined) {
    refuseForeign(folder);
    writeMarker(folder);
    return;
  }
  if (marker !== FORMAT) {
    beginAnew(folder, `it has the form ${marker}, this version knows ${FORMAT}`);
    fs.rmSync(join(folder, MARKER), { force: true });
    writeMarker(folder);
    return;
  }
  const fault = indexFault(folder);
  if (fault !== undefined) beginAnew(folder, fault);
}

/** Removes index and segments, and nothing else; who listens is told. */
export function beginAnew(folder: string, reason: string): void {
  for (const name of fs.readdirSync(folder)) {
    if (name === INDEX || name === `${INDEX}-lock` || isSegmentFile(name)) {
      fs.rmSync(join(folder, name), { force: true });
    }
  }
  tell('inferkv:store.begun-anew', () => ({ store: 'disk', folder, reason }));
}

/** The number that tells this file from one that is put in its place; `undefined` where there is none. */
export function inodeOf(path: string): number | undefined {
  return fs.statSync(path, { throwIfNoEntry: false })?.ino;
}

function markerOf(folder: string): number | string | undefined {
  let text: string;
  try {
    text = fs.readFileSync(join(folder, MARKER), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const { format } = JSON.parse(text) as { format?: unknown };
    return typeof format === 'number' ? format : 'unknown';
  } catch {
    return 'unknown';
  }
}

/** As a whole or not at all, and the first of several processes wins. */
function writeMarker(folder: string): void {
  const draft = join(folder, `${MARKER}.${newNonce()}`);
  fs.writeFileSync(draft, `${JSON.stringify({ format: FORMAT, what: 'a disk store of inferkv; may be deleted' })}\n`);
  try {
    fs.linkSync(draft, join(folder, MARKER));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    fs.rmSync(draft, { force: true });
  }
}

function refuseForeign(folder: string): void {
  const foreign = fs.readdirSync(folder).find((name) => !name.startsWith(MARKER) && name !== 'lost+found');
  // Another process may have made it ours meanwhile.
  if (foreign === undefined || markerOf(folder) !== undefined) return;
  throw new InferkvError(
    'ERR_INFERKV_STORE_FAILED',
    `The folder ${folder} is not a disk store's and is not empty (${foreign}); name an empty folder, or a new one.`,
    { key: folder },
  );
}

/** What keeps lmdb from reading its file without harm: it maps it, and a page beyond the end would end the process. */
function indexFault(folder: string): string | undefined {
  let fd: number;
  try {
    fd = fs.openSync(indexPath(folder), 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    // One that is being made by another process has nothing yet.
    if (fs.fstatSync(fd).size === 0) return undefined;
    const first = metaOf(fd, 0);
    const second = metaOf(fd, first?.pageBytes ?? DEFAULT_PAGE);
    const metas = [first, second].filter((each) => each !== undefined);
    if (metas.length === 0) return 'its index is of another origin';
    const pages = Math.max(...metas.map(({ lastPage }) => lastPage + 1));
    const pageBytes = metas[0]?.pageBytes ?? DEFAULT_PAGE;
    // Read after the pages' number: the file only grows.
    const { size } = fs.fstatSync(fd);
    return pages * pageBytes > size ? 'its index has been cut off' : undefined;
  } finally {
    fs.closeSync(fd);
  }
}

function metaOf(fd: number, position: number): { readonly pageBytes: number; readonly lastPage: number } | undefined {
  const bytes = Buffer.alloc(META_BYTES);
  if (fs.readSync(fd, bytes, 0, META_BYTES, position) < META_BYTES) return undefined;
  if (bytes.readUInt32LE(24) !== LMDB_MAGIC) return undefined;
  return { pageBytes: bytes.readUInt32LE(48), lastPage: Number(bytes.readBigUInt64LE(144)) };
}
