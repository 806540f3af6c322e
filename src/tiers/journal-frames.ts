import { crc32 } from 'node:zlib';

/** A write that was acknowledged before its tier had it, or the note that the tier has it by now. */
export type JournalEntry =
  | {
      readonly kind: 'put';
      readonly sequence: number;
      readonly name: string;
      readonly token: number;
      /** Milliseconds since 1970 after which nobody wants it; `Infinity` for never. */
      readonly expiresAtMs: number;
      readonly record: readonly Uint8Array[];
    }
  | {
      readonly kind: 'done';
      /** Of the last write of that name which its tier has, or which is not wanted any more. */
      readonly sequence: number;
      readonly name: string;
    };

/** What was read of a file. */
export interface ReadFrames {
  readonly entries: readonly JournalEntry[];
  /** Bytes that are no whole frame: the end of a write that a crash cut off, or damage. */
  readonly lostBytes: number;
}

const MAGIC = 0x464a_4b69;
const HEAD_BYTES = 16;
const FIXED_BYTES = 1 + 1 + 2 + 8;
const PUT_BYTES = 8 + 8;
const KIND = { put: 1, done: 2 } as const;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * An entry as it lies in a file, in parts; the record is not copied.
 *
 * ```
 *   | "iKJF" | body bytes, 32 bits | CRC-32 of the body | CRC-32 of these three |
 *   | kind | 0 | bytes of the name, 16 bits | sequence, f64 | name | put: token, f64 | expiry, f64 | the record |
 * ```
 */
export function frameOf(entry: JournalEntry): readonly Uint8Array[] {
  const name = encoder.encode(entry.name);
  const start = new Uint8Array(HEAD_BYTES + FIXED_BYTES + name.length + (entry.kind === 'put' ? PUT_BYTES : 0));
  const view = new DataView(start.buffer);
  const record = entry.kind === 'put' ? entry.record : [];
  let at = HEAD_BYTES;
  view.setUint8(at, KIND[entry.kind]);
  view.setUint16(at + 2, name.length, true);
  view.setFloat64(at + 4, entry.sequence, true);
  start.set(name, at + FIXED_BYTES);
  at += FIXED_BYTES + name.length;
  if (entry.kind === 'put') {
    view.setFloat64(at, entry.token, true);
    view.setFloat64(at + 8, entry.expiresAtMs, true);
  }
  const bodyBytes = record.reduce((sum, { length }) => sum + length, start.length - HEAD_BYTES);
  const crc = record.reduce((sum, part) => crc32(part, sum), crc32(start.subarray(HEAD_BYTES)));
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, bodyBytes, true);
  view.setUint32(8, crc, true);
  view.setUint32(12, crc32(start.subarray(0, 12)), true);
  return [start, ...record];
}

/** Whatever is whole in the bytes of a file, in its order; what is not is passed over. */
export function readFrames(bytes: Uint8Array): ReadFrames {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries: JournalEntry[] = [];
  let lostBytes = 0;
  let at = 0;
  while (at < bytes.length) {
    const end = frameEnd(bytes, view, at);
    const entry = end < 0 ? undefined : readBody(bytes.subarray(at + HEAD_BYTES, end));
    if (entry === undefined) {
      // The next frame, if there is one, begins where its first bytes say so.
      const next = nextMagic(bytes, at + 1);
      lostBytes += next - at;
      at = next;
      continue;
    }
    entries.push(entry);
    at = end;
  }
  return { entries, lostBytes };
}

/** Where the whole frame that begins at a place ends; -1 if none does. */
function frameEnd(bytes: Uint8Array, view: DataView, at: number): number {
  if (at + HEAD_BYTES > bytes.length || view.getUint32(at, true) !== MAGIC) return -1;
  if (crc32(bytes.subarray(at, at + 12)) !== view.getUint32(at + 12, true)) return -1;
  const end = at + HEAD_BYTES + view.getUint32(at + 4, true);
  if (end > bytes.length) return -1;
  return crc32(bytes.subarray(at + HEAD_BYTES, end)) === view.getUint32(at + 8, true) ? end : -1;
}

function nextMagic(bytes: Uint8Array, from: number): number {
  for (let at = from; at + 4 <= bytes.length; at++) {
    if (bytes[at] === 0x69 && bytes[at + 1] === 0x4b && bytes[at + 2] === 0x4a && bytes[at + 3] === 0x46) return at;
  }
  return bytes.length;
}

function readBody(body: Uint8Array): JournalEntry | undefined {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  if (body.length < FIXED_BYTES) return undefined;
  const nameEnd = FIXED_BYTES + view.getUint16(2, true);
  if (nameEnd > body.length) return undefined;
  const sequence = view.getFloat64(4, true);
  const name = decoder.decode(body.subarray(FIXED_BYTES, nameEnd));
  if (body[0] === KIND.done) return { kind: 'done', sequence, name };
  if (body[0] !== KIND.put || nameEnd + PUT_BYTES > body.length) return undefined;
  return {
    kind: 'put',
    sequence,
    name,
    token: view.getFloat64(nameEnd, true),
    expiresAtMs: view.getFloat64(nameEnd + 8, true),
    record: [body.subarray(nameEnd + PUT_BYTES)],
  };
}
