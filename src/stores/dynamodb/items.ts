import type { WriteRequest } from '@aws-sdk/client-dynamodb';

import { copyOfParts, tokenOfParts } from '../parts.ts';
import { lengthOfParts } from '../store.ts';
import type { Item } from './batches.ts';

/**
 * Records as items. One that fits lies in its item, attribute `d`. A longer one is a manifest under its name, and chunks
 * under names made of its generation, 16 random bytes of that one write: `g` is the generation, `n` the record's bytes, `c`
 * a chunk's bytes, `i` its place. `t` is the token, `x` the expiry in milliseconds since 1970, and `expiresAt` the same in
 * seconds, for DynamoDB to delete by.
 */
export interface Manifest {
  readonly generation: Uint8Array;
  readonly recordBytes: number;
  readonly chunkBytes: number;
}

const MAX_CHUNKS = 100_000;

/** The attribute that DynamoDB deletes by. */
export const TTL_ATTRIBUTE = 'expiresAt';

/** The expiry as DynamoDB takes it. */
export function secondsOf(expiresAtMs: number): string {
  return String(Math.ceil(expiresAtMs / 1000));
}

/** The item of a record that fits, or of the manifest of one that does not. */
export function recordItem(
  key: string,
  parts: readonly Uint8Array[],
  manifest: Manifest | undefined,
  expiresAtMs: number,
): Record<string, Item[string]> {
  const length = lengthOfParts(parts);
  const common = {
    pk: { S: key },
    n: { N: String(length) },
    t: { N: String(tokenOfParts(parts)) },
    x: { N: String(Math.ceil(expiresAtMs)) },
    [TTL_ATTRIBUTE]: { N: secondsOf(expiresAtMs) },
  };
  if (manifest === undefined) return { ...common, d: { B: copyOfParts(parts, 0, length) } };
  return { ...common, g: { B: manifest.generation }, c: { N: String(manifest.chunkBytes) } };
}

/** Writes of all chunks, each made of the record's bytes when it is asked for. */
export function chunkWrites(
  prefix: string,
  parts: readonly Uint8Array[],
  manifest: Manifest,
  expiresAtMs: number,
): readonly (() => WriteRequest)[] {
  const { generation, recordBytes, chunkBytes } = manifest;
  return chunkKeys(prefix, manifest).map((key, place) => () => {
    const from = place * chunkBytes;
    const Item = {
      pk: { S: key },
      g: { B: generation },
      i: { N: String(place) },
      d: { B: copyOfParts(parts, from, Math.min(chunkBytes, recordBytes - from)) },
      [TTL_ATTRIBUTE]: { N: secondsOf(expiresAtMs) },
    };
    return { PutRequest: { Item } };
  });
}

/** Names of all chunks. */
export function chunkKeys(prefix: string, { generation, recordBytes, chunkBytes }: Manifest): readonly string[] {
  const start = `${prefix}c:${Buffer.from(generation).toString('base64url')}:`;
  return Array.from({ length: Math.ceil(recordBytes / chunkBytes) }, (_, place) => start + place);
}

/** Whether it is there: DynamoDB deletes what has expired some time later. */
export function isAlive(item: Item | undefined, nowMs: number): item is Item {
  return item !== undefined && numberOf(item, 'x') > nowMs;
}

/** The manifest in an item; `undefined` if it is none, or says of a record that it is longer than `maxRecordBytes`. */
export function manifestOf(item: Item | undefined, maxRecordBytes: number): Manifest | undefined {
  const generation = item?.['g']?.B;
  if (item === undefined || generation === undefined) return undefined;
  const recordBytes = numberOf(item, 'n');
  const chunkBytes = numberOf(item, 'c');
  if (!isLength(recordBytes) || !isLength(chunkBytes) || recordBytes > maxRecordBytes || chunkBytes === 0)
    return undefined;
  // One of ours has no chunks shorter than that; anything else would ask for millions.
  return recordBytes / chunkBytes > MAX_CHUNKS ? undefined : { generation, recordBytes, chunkBytes };
}

/** The record in an item, if it is there as a whole; in memory of its own. */
export function wholeOf(item: Item, allocate: (lengthBytes: number) => Uint8Array): Uint8Array | undefined {
  const bytes = item['d']?.B;
  if (bytes === undefined || bytes.length !== numberOf(item, 'n')) return undefined;
  const record = allocate(bytes.length);
  record.set(bytes);
  return record;
}

/** Puts chunks together; `undefined` if one is missing, or is not the one that belongs there. */
export function joinItems(
  prefix: string,
  manifest: Manifest,
  items: ReadonlyMap<string, Item>,
  allocate: (lengthBytes: number) => Uint8Array,
): Uint8Array | undefined {
  const { generation, recordBytes, chunkBytes } = manifest;
  const chunks: Uint8Array[] = [];
  for (const [place, key] of chunkKeys(prefix, manifest).entries()) {
    const item = items.get(key);
    const bytes = item?.['d']?.B;
    const own = item?.['g']?.B;
    if (item === undefined || bytes === undefined || own === undefined) return undefined;
    if (Buffer.compare(own, generation) !== 0 || numberOf(item, 'i') !== place) return undefined;
    if (bytes.length !== Math.min(chunkBytes, recordBytes - place * chunkBytes)) return undefined;
    chunks.push(bytes);
  }
  const record = allocate(recordBytes);
  for (const [place, bytes] of chunks.entries()) record.set(bytes, place * chunkBytes);
  return record;
}

/** A number of an item; `NaN` if it has none by that name. */
export function numberOf(item: Item | undefined, attribute: string): number {
  return Number(item?.[attribute]?.N ?? Number.NaN);
}

function isLength(number: number): boolean {
  return Number.isSafeInteger(number) && number >= 0;
}
