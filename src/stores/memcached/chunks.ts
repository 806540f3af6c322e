import { crc32 } from 'node:zlib';

import { viewsOfParts } from '../parts.ts';

/**
 * A record that is longer than an item: a manifest under the record's name, and chunks under names made of its generation,
 * which is 16 random bytes of that one write. Chunks are written first, so a manifest that is there has had all its chunks;
 * any of them may be evicted, and then the record is not there.
 *
 * ```
 * manifest | generation, 16 | record bytes, 32 bits | chunk bytes, 32 bits | token, 64 bits | CRC-32 of this |   big-endian
 * chunk    | generation, 16 | its place, 32 bits | bytes |
 * ```
 */
export interface Manifest {
  readonly generation: Uint8Array;
  readonly recordBytes: number;
  readonly chunkBytes: number;
  /** The token of the record, for those who would overwrite it. */
  readonly token: number;
}

const GENERATION_BYTES = 16;
const MAX_CHUNKS = 100_000;
const MANIFEST_BYTES = GENERATION_BYTES + 20;
/** What a chunk has before its bytes. */
export const CHUNK_HEAD_BYTES: number = GENERATION_BYTES + 4;

/** The manifest's bytes. */
export function sealManifest({ generation, recordBytes, chunkBytes, token }: Manifest): Uint8Array {
  const bytes = Buffer.alloc(MANIFEST_BYTES);
  bytes.set(generation, 0);
  bytes.writeUInt32BE(recordBytes, 16);
  bytes.writeUInt32BE(chunkBytes, 20);
  bytes.writeBigUInt64BE(BigInt(token), 24);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, 32)), 32);
  return bytes;
}

/** The manifest in these bytes; `undefined` if it is none, or says of a record that it is longer than `maxRecordBytes`. */
export function openManifest(bytes: Uint8Array, maxRecordBytes: number): Manifest | undefined {
  if (bytes.length !== MANIFEST_BYTES) return undefined;
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.readUInt32BE(32) !== crc32(view.subarray(0, 32))) return undefined;
  const recordBytes = view.readUInt32BE(16);
  const chunkBytes = view.readUInt32BE(20);
  // Nothing of ours has so many chunks; they would all be asked for.
  if (recordBytes > maxRecordBytes || !(recordBytes / chunkBytes <= MAX_CHUNKS)) return undefined;
  return {
    generation: bytes.slice(0, GENERATION_BYTES),
    recordBytes,
    chunkBytes,
    token: Number(view.readBigUInt64BE(24)),
  };
}

/** How many chunks a record has. */
export function chunkCount({ recordBytes, chunkBytes }: Manifest): number {
  return Math.ceil(recordBytes / chunkBytes);
}

/** The parts of one chunk: its head, and its bytes of the record. */
export function chunkParts(parts: readonly Uint8Array[], manifest: Manifest, place: number): readonly Uint8Array[] {
  const head = Buffer.alloc(CHUNK_HEAD_BYTES);
  head.set(manifest.generation, 0);
  head.writeUInt32BE(place, GENERATION_BYTES);
  const from = place * manifest.chunkBytes;
  return [head, ...viewsOfParts(parts, from, Math.min(manifest.chunkBytes, manifest.recordBytes - from))];
}

/** Puts chunks together; `undefined` if one is missing, or is not the one that belongs there. */
export function joinChunks(
  manifest: Manifest,
  chunks: readonly Uint8Array[],
  allocate: (lengthBytes: number) => Uint8Array,
): Uint8Array | undefined {
  const { generation, recordBytes, chunkBytes } = manifest;
  for (const [place, chunk] of chunks.entries()) {
    const expected = Math.min(chunkBytes, recordBytes - place * chunkBytes);
    if (chunk.length !== CHUNK_HEAD_BYTES + expected) return undefined;
    const head = Buffer.from(chunk.buffer, chunk.byteOffset, CHUNK_HEAD_BYTES);
    if (head.readUInt32BE(GENERATION_BYTES) !== place) return undefined;
    if (Buffer.compare(head.subarray(0, GENERATION_BYTES), generation) !== 0) return undefined;
  }
  const record = allocate(recordBytes);
  for (const [place, chunk] of chunks.entries()) record.set(chunk.subarray(CHUNK_HEAD_BYTES), place * chunkBytes);
  return record;
}
