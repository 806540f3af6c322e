/**
 * Checks a TorchScript archive before libtorch reads it: libtorch checks no sums (of 111 flipped bytes it loaded 52
 * without a word), and believes what a file says of the sizes inside. The format is zip, its entries stored or deflated.
 *
 * Source: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (4.3, 4.5.3)
 */
import { crc32, inflateRawSync } from 'node:zlib';

import { InferkvError, messageOf } from '../../base/errors.ts';

interface Entry {
  readonly name: string;
  readonly method: number;
  readonly crc: number;
  readonly packedBytes: number;
  readonly sizeBytes: number;
  readonly headerAt: number;
  /** Where the next one begins, or the directory. */
  endAt: number;
}

class ArchiveError extends Error {}

const END = 0x06054b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;

const END_BYTES = 22;
const LOCATOR64_BYTES = 20;
const CENTRAL_BYTES = 46;
const LOCAL_BYTES = 30;
const MAX_COMMENT_BYTES = 0xffff;
const SIZE_IN_EXTRA = 0xffffffff;
const COUNT_IN_EXTRA = 0xffff;
const ZIP64_EXTRA = 1;
const FLAG_ENCRYPTED = 1;
const STORED = 0;
const DEFLATED = 8;

// Code and what is kept for error messages is deflated; tensors never are. A hundred times what is usual.
const MAX_INFLATED_BYTES = 256 * 1024 * 1024;

/** Little-endian numbers, with the file's end checked at each. */
class Reader {
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u16(at: number): number {
    this.#assertInside(at, 2);
    return this.#view.getUint16(at, true);
  }

  u32(at: number): number {
    this.#assertInside(at, 4);
    return this.#view.getUint32(at, true);
  }

  u64(at: number): number {
    this.#assertInside(at, 8);
    const value = this.#view.getBigUint64(at, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new ArchiveError('it claims more bytes than there can be');
    return Number(value);
  }

  slice(at: number, length: number): Uint8Array {
    this.#assertInside(at, length);
    return this.bytes.subarray(at, at + length);
  }

  #assertInside(at: number, length: number): void {
    if (at < 0 || at + length > this.bytes.byteLength) throw new ArchiveError('it ends too early');
  }
}

/**
 * @param bytes the whole file
 * @throws InferkvError `ERR_INFERKV_ARTIFACT_INVALID` for what is cut, changed, no archive, or no TorchScript program
 */
export function checkArchive(bytes: Uint8Array, path: string): void {
  try {
    const reader = new Reader(bytes);
    const entries = centralDirectory(reader);
    checkContent(entries);
    let inflatedBytes = 0;
    for (const entry of entries) {
      if (entry.method === DEFLATED) inflatedBytes += entry.sizeBytes;
      if (inflatedBytes > MAX_INFLATED_BYTES) throw new ArchiveError('its code would be larger than 256 MiB');
      checkEntry(reader, entry);
    }
  } catch (error) {
    if (!(error instanceof ArchiveError)) throw error;
    throw new InferkvError(
      'ERR_INFERKV_ARTIFACT_INVALID',
      `The model file ${path} is no whole TorchScript program: ${error.message}.`,
      { cause: error, key: path },
    );
  }
}

/** The entries in the order in which they lie. */
function centralDirectory(reader: Reader): readonly Entry[] {
  const { at: endAt, count, directoryAt } = endRecord(reader);
  const entries: Entry[] = [];
  let at = directoryAt;
  for (let i = 0; i < count; i++) {
    const { entry, next } = centralEntry(reader, at);
    entries.push(entry);
    at = next;
  }
  if (at > endAt) throw new ArchiveError('its directory runs into its end');
  const inOrder = entries.toSorted((a, b) => a.headerAt - b.headerAt);
  for (const [place, entry] of inOrder.entries()) entry.endAt = inOrder[place + 1]?.headerAt ?? directoryAt;
  return inOrder;
}

function endRecord(reader: Reader): { readonly at: number; readonly count: number; readonly directoryAt: number } {
  const last = reader.bytes.byteLength - END_BYTES;
  for (let at = last; at >= Math.max(0, last - MAX_COMMENT_BYTES); at--) {
    if (reader.u32(at) !== END || reader.u16(at + 20) !== last - at) continue;
    const count = reader.u16(at + 10);
    const directoryAt = reader.u32(at + 16);
    if (count !== COUNT_IN_EXTRA && directoryAt !== SIZE_IN_EXTRA) return { at, count, directoryAt };
    if (reader.u32(at - LOCATOR64_BYTES) !== LOCATOR64) throw new ArchiveError('its directory cannot be found');
    const at64 = reader.u64(at - LOCATOR64_BYTES + 8);
    if (reader.u32(at64) !== END64) throw new ArchiveError('its directory cannot be found');
    return { at: at64, count: reader.u64(at64 + 32), directoryAt: reader.u64(at64 + 48) };
  }
  throw new ArchiveError('it is no zip archive, or its end is missing');
}

function centralEntry(reader: Reader, at: number): { readonly entry: Entry; readonly next: number } {
  if (reader.u32(at) !== CENTRAL) throw new ArchiveError('its directory is damaged');
  if ((reader.u16(at + 8) & FLAG_ENCRYPTED) !== 0) throw new ArchiveError('it is encrypted');
  const [nameBytes, extraBytes, commentBytes] = [reader.u16(at + 28), reader.u16(at + 30), reader.u16(at + 32)];
  const extraAt = at + CENTRAL_BYTES + nameBytes;
  const wide = wideNumbers(reader, extraAt, extraBytes);
  const number = (value: number): number => (value === SIZE_IN_EXTRA ? wide() : value);
  // In the order in which the extra field has them.
  const sizeBytes = number(reader.u32(at + 24));
  const packedBytes = number(reader.u32(at + 20));
  const headerAt = number(reader.u32(at + 42));
  const name = text(reader.slice(at + CENTRAL_BYTES, nameBytes));
  const entry = {
    name,
    method: reader.u16(at + 10),
    crc: reader.u32(at + 16),
    packedBytes,
    sizeBytes,
    headerAt,
    endAt: 0,
  };
  return { entry, next: extraAt + extraBytes + commentBytes };
}

/** Numbers that need 64 bits, one after the other. */
function wideNumbers(reader: Reader, from: number, length: number): () => number {
  let at = from;
  let end = from;
  for (let field = from; field + 4 <= from + length; field += 4 + reader.u16(field + 2)) {
    if (reader.u16(field) !== ZIP64_EXTRA) continue;
    at = field + 4;
    end = at + reader.u16(field + 2);
  }
  return () => {
    at += 8;
    if (at > end) throw new ArchiveError('its directory is damaged');
    return reader.u64(at - 8);
  };
}

/** What every program has, whatever the model: without it this is some other zip archive. */
function checkContent(entries: readonly Entry[]): void {
  const names = new Set(entries.map(({ name }) => name));
  if (names.size < entries.length) throw new ArchiveError('it has two entries of one name');
  const root = entries.find(({ name }) => name.endsWith('/data.pkl') && name.indexOf('/') === name.lastIndexOf('/'));
  if (root === undefined) throw new ArchiveError('it is a zip archive of something else');
  const folder = root.name.slice(0, -'data.pkl'.length);
  if (!names.has(`${folder}constants.pkl`)) {
    throw new ArchiveError(
      'it holds tensors and no code, as torch.save writes them; save it with torch.jit.script(model).save(path)',
    );
  }
}

function checkEntry(reader: Reader, entry: Entry): void {
  const { name, method, crc, packedBytes, sizeBytes, headerAt, endAt } = entry;
  if (reader.u32(headerAt) !== LOCAL) throw new ArchiveError(`its entry ${name} is not where it should be`);
  const nameBytes = reader.u16(headerAt + 26);
  if (text(reader.slice(headerAt + LOCAL_BYTES, nameBytes)) !== name || reader.u16(headerAt + 8) !== method) {
    throw new ArchiveError(`its entry ${name} is damaged`);
  }
  const contentAt = headerAt + LOCAL_BYTES + nameBytes + reader.u16(headerAt + 28);
  if (contentAt + packedBytes > endAt) throw new ArchiveError(`its entry ${name} runs into the next`);
  const packed = reader.slice(contentAt, packedBytes);
  const content = method === STORED ? packed : method === DEFLATED ? inflated(name, packed, sizeBytes) : undefined;
  if (content === undefined) throw new ArchiveError(`its entry ${name} is packed in a way that libtorch does not read`);
  if (content.byteLength !== sizeBytes || crc32(content) !== crc) {
    throw new ArchiveError(`its entry ${name} is damaged`);
  }
}

function inflated(name: string, packed: Uint8Array, sizeBytes: number): Uint8Array {
  try {
    // One byte more than there should be, so that what goes on beyond that shows.
    return inflateRawSync(packed, { maxOutputLength: sizeBytes + 1 });
  } catch (error) {
    throw new ArchiveError(`its entry ${name} is damaged: ${messageOf(error)}`, { cause: error });
  }
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}
