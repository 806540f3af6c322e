import { crc32 } from 'node:zlib';

/**
 * What the index says of a record:
 *
 * ```
 *    0 | CRC-32 of the name and of what follows up to 48 | kind: 1 in the index, 2 in a file | 0 | 0 | 0 |
 *    8 | segment | offset in it | length | expiry, ms since 1970: 64-bit floats |
 *   40 | token, 64 bits, big-endian |
 *   48 | the record itself, if it lies here |
 * ```
 *
 * Numbers are little-endian. A segment's number is never given twice in a folder: what has been reclaimed and written
 * again is another segment, so that an old entry leads to nothing and never to another record.
 */
export interface Entry {
  readonly isInline: boolean;
  readonly segment: number;
  readonly offset: number;
  readonly length: number;
  readonly expiresAtMs: number;
  readonly token: number;
}

/** Bytes before a record in the index. */
export const ENTRY_BYTES = 48;
/** Bytes before a record in a segment file. */
export const FRAME_BYTES = 32;
const FRAME_MAGIC = 0x7356_4b69;
const FRAME_VERSION = 1;

/** Writes an entry at the beginning of `bytes`. */
export function writeEntry(bytes: Buffer, name: string, entry: Entry): void {
  bytes.writeUInt32LE(entry.isInline ? 1 : 2, 4);
  bytes.writeDoubleLE(entry.segment, 8);
  bytes.writeDoubleLE(entry.offset, 16);
  bytes.writeDoubleLE(entry.length, 24);
  bytes.writeDoubleLE(entry.expiresAtMs, 32);
  bytes.writeBigUInt64BE(BigInt(entry.token), 40);
  bytes.writeUInt32LE(crc32(bytes.subarray(4, ENTRY_BYTES), crc32(name)), 0);
}

/** The entry at the beginning of `bytes`; `undefined` if it is not whole, or another's. */
export function readEntry(bytes: Buffer, name: string): Entry | undefined {
  if (bytes.length < ENTRY_BYTES) return undefined;
  if (bytes.readUInt32LE(0) !== crc32(bytes.subarray(4, ENTRY_BYTES), crc32(name))) return undefined;
  const isInline = bytes[4] === 1;
  const length = bytes.readDoubleLE(24);
  if (isInline && bytes.length !== ENTRY_BYTES + length) return undefined;
  return {
    isInline,
    segment: bytes.readDoubleLE(8),
    offset: bytes.readDoubleLE(16),
    length,
    expiresAtMs: bytes.readDoubleLE(32),
    token: Number(bytes.readBigUInt64BE(40)),
  };
}

/** What stands before a record in a file, so that a file of another origin, or a place never written, is not believed. */
export function frameOf(name: string, segment: number, length: number): Buffer {
  const frame = Buffer.alloc(FRAME_BYTES);
  frame.writeUInt32LE(FRAME_MAGIC, 0);
  frame.writeUInt32LE(FRAME_VERSION, 4);
  frame.writeDoubleLE(segment, 8);
  frame.writeDoubleLE(length, 16);
  frame.writeUInt32LE(crc32(name), 24);
  frame.writeUInt32LE(crc32(frame.subarray(0, 28)), 28);
  return frame;
}

/** Whether two entries are of the same write. */
export function isSamePlace(a: Entry | undefined, b: Entry | undefined): boolean {
  return a !== undefined && b !== undefined && a.segment === b.segment && a.offset === b.offset;
}
