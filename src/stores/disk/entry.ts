/** What the index has of a record: the record itself, or where it lies. */
export type DiskEntry =
  | {
      readonly kind: 'inline';
      readonly expiresAtMs: number;
      readonly token: number;
      readonly order: number;
      readonly record: Uint8Array;
    }
  | { readonly kind: 'placed'; readonly expiresAtMs: number; readonly token: number; readonly place: Place };

/** Where a record lies: a segment's name is never used again, so a place means one record for ever. */
export interface Place {
  readonly segment: string;
  readonly offset: number;
  readonly lengthBytes: number;
}

/** Records up to here lie in the index itself: a second file to read would cost more than it saves. */
export const INLINE_BYTES: number = 16 * 1024;

const KIND = { inline: 1, placed: 2 } as const;
const HEADER_BYTES = 32;

/**
 * ```
 *   | kind | zeros to 8 | expiry, f64 | token, f64 | inline: order, f64; placed: offset, f64 |
 *   | inline: the record; placed: length in bytes, f64, and the segment's name |
 * ```
 */
export function encodeInline(
  parts: readonly Uint8Array[],
  lengthBytes: number,
  facts: { readonly expiresAtMs: number; readonly token: number; readonly order: number },
): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + lengthBytes);
  bytes[0] = KIND.inline;
  bytes.writeDoubleLE(facts.expiresAtMs, 8);
  bytes.writeDoubleLE(facts.token, 16);
  bytes.writeDoubleLE(facts.order, 24);
  let at = HEADER_BYTES;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

export function encodePlaced(
  place: Place,
  { expiresAtMs, token }: { readonly expiresAtMs: number; readonly token: number },
): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES + 8 + place.segment.length);
  bytes[0] = KIND.placed;
  bytes.writeDoubleLE(expiresAtMs, 8);
  bytes.writeDoubleLE(token, 16);
  bytes.writeDoubleLE(place.offset, 24);
  bytes.writeDoubleLE(place.lengthBytes, HEADER_BYTES);
  bytes.write(place.segment, HEADER_BYTES + 8, 'latin1');
  return bytes;
}

/** `undefined` for bytes that are no entry. The record of an inline one is a view of the bytes. */
export function decodeEntry(bytes: Buffer): DiskEntry | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const expiresAtMs = bytes.readDoubleLE(8);
  const token = bytes.readDoubleLE(16);
  if (bytes[0] === KIND.inline) {
    return { kind: 'inline', expiresAtMs, token, order: bytes.readDoubleLE(24), record: bytes.subarray(HEADER_BYTES) };
  }
  if (bytes[0] !== KIND.placed || bytes.length < HEADER_BYTES + 8) return undefined;
  const segment = bytes.toString('latin1', HEADER_BYTES + 8);
  const place = { segment, offset: bytes.readDoubleLE(24), lengthBytes: bytes.readDoubleLE(HEADER_BYTES) };
  const isPlace =
    Number.isSafeInteger(place.offset) && Number.isSafeInteger(place.lengthBytes) && place.lengthBytes >= 0;
  return isPlace ? { kind: 'placed', expiresAtMs, token, place } : undefined;
}
