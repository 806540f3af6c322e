import { crc32 } from 'node:zlib';

import { invariant } from '../base/assertions.ts';

/** What tells entries of a journal apart and orders them. */
interface EntryFacts {
  /** Whose write it is: the name of a tier, as a rule. */
  readonly target: string;
  /** Of the record. */
  readonly name: string;
  /** Grows with every write of a process, and from a process to those that are started after it. */
  readonly sequence: number;
  /** A number of whoever wrote it, so that two processes never mean each other's writes. */
  readonly writer: number;
}

/** A write that was acknowledged before its target had it. */
export interface PutEntry extends EntryFacts {
  readonly kind: 'put';
  readonly token: number;
  /** Milliseconds since 1970 after which nobody wants it; `Infinity` for never. */
  readonly expiresAtMs: number;
  readonly record: readonly Uint8Array[];
}

/**
 * A note on writes. `done`: the target has the write, or nobody wants it any more, and the same is true of every earlier one of
 * that name; `void`: this one write was not acknowledged, although it may lie there.
 */
export interface MarkEntry extends EntryFacts {
  readonly kind: 'done' | 'void';
}

/** What a journal holds. */
export type JournalEntry = PutEntry | MarkEntry;

/** An entry, and where in its file it lies. */
export interface Frame {
  readonly entry: JournalEntry;
  readonly at: number;
  readonly lengthBytes: number;
}

/** What was read of a file. */
export interface ReadFrames {
  readonly frames: readonly Frame[];
  /** Bytes that are no whole frame: the end of a write that a crash cut off, or damage. */
  readonly damagedBytes: number;
}

/** Bytes of a file's number. */
export const FILE_ID_BYTES = 8;

const VERSION = 1;
const AT = { version: 8, kind: 9, bodyBytes: 12, bodyCrc: 16, headCrc: 20 } as const;
const HEAD_BYTES = 24;
const MARK_BYTES = 16;
const PUT_BYTES = MARK_BYTES + 16;
const MAX_BODY_BYTES = 2 ** 31;
const KINDS = [undefined, 'put', 'done', 'void'] as const;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/**
 * An entry as it lies in a file, in parts; the record is not copied.
 *
 * ```
 *    0 | number of the file, 64 bits | version, 8 bits | kind, 8 bits | 0, 16 bits | body bytes, 32 bits |
 *   16 | CRC-32 of the body | CRC-32 of all before |
 *   24 | sequence, 64-bit float | writer, 32 bits | bytes of the target, 16 bits | bytes of the name, 16 bits |
 *      | put: token, 64-bit float | expiry, 64-bit float |
 *      | target | name | put: the record |
 * ```
 *
 * The number of the file is random, and stands in its name: nothing that a record contains can pass for a frame.
 */
export function frameOf(entry: JournalEntry, fileId: Uint8Array): readonly Uint8Array[] {
  const [target, name] = [encoder.encode(entry.target), encoder.encode(entry.name)];
  const fixedBytes = entry.kind === 'put' ? PUT_BYTES : MARK_BYTES;
  const start = new Uint8Array(HEAD_BYTES + fixedBytes + target.length + name.length);
  const view = new DataView(start.buffer);
  view.setFloat64(HEAD_BYTES, entry.sequence, true);
  view.setUint32(HEAD_BYTES + 8, entry.writer, true);
  view.setUint16(HEAD_BYTES + 12, target.length, true);
  view.setUint16(HEAD_BYTES + 14, name.length, true);
  if (entry.kind === 'put') {
    view.setFloat64(HEAD_BYTES + 16, entry.token, true);
    view.setFloat64(HEAD_BYTES + 24, entry.expiresAtMs, true);
  }
  start.set(target, HEAD_BYTES + fixedBytes);
  start.set(name, HEAD_BYTES + fixedBytes + target.length);
  const record = entry.kind === 'put' ? entry.record : [];
  const bodyBytes = record.reduce((sum, { length }) => sum + length, start.length - HEAD_BYTES);
  invariant(bodyBytes <= MAX_BODY_BYTES, 'a record in a journal has at most 2 GiB');
  start.set(fileId, 0);
  start[AT.version] = VERSION;
  start[AT.kind] = KINDS.indexOf(entry.kind);
  view.setUint32(AT.bodyBytes, bodyBytes, true);
  const bodyCrc = record.reduce((sum, part) => crc32(part, sum), crc32(start.subarray(HEAD_BYTES)));
  view.setUint32(AT.bodyCrc, bodyCrc, true);
  view.setUint32(AT.headCrc, crc32(start.subarray(0, AT.headCrc)), true);
  return [start, ...record];
}

/** Whatever is whole in the bytes of a file, in its order; what is not is passed over. Records are views of the bytes. */
export function readFrames(bytes: Uint8Array, fileId: Uint8Array): ReadFrames {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const searched = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const frames: Frame[] = [];
  let damagedBytes = 0;
  let at = 0;
  while (at < bytes.length) {
    const end = searched.indexOf(fileId, at) === at ? endOfFrame(bytes, view, at) : undefined;
    if (end === undefined) {
      // The next frame, if there is one, begins where the number of the file stands.
      const next = searched.indexOf(fileId, at + 1);
      damagedBytes += (next < 0 ? bytes.length : next) - at;
      if (next < 0) break;
      at = next;
      continue;
    }
    const entry = readEntry(bytes.subarray(at, end));
    // Of a later version, perhaps: it is whole, so that the next one begins behind it.
    if (entry === undefined) damagedBytes += end - at;
    else frames.push({ entry, at, lengthBytes: end - at });
    at = end;
  }
  return { frames, damagedBytes };
}

/** Whether one entry is later than another of the same name. */
export function isLater(one: Ordered, other: Ordered): boolean {
  return one.sequence > other.sequence || (one.sequence === other.sequence && one.writer > other.writer);
}

/** What has a place in the order of writes. */
export type Ordered = Pick<JournalEntry, 'sequence' | 'writer'>;

/** Where the whole frame ends that begins at a place. */
function endOfFrame(bytes: Uint8Array, view: DataView, at: number): number | undefined {
  if (at + HEAD_BYTES > bytes.length) return undefined;
  if (crc32(bytes.subarray(at, at + AT.headCrc)) !== view.getUint32(at + AT.headCrc, true)) return undefined;
  const end = at + HEAD_BYTES + view.getUint32(at + AT.bodyBytes, true);
  if (end > bytes.length) return undefined;
  return crc32(bytes.subarray(at + HEAD_BYTES, end)) === view.getUint32(at + AT.bodyCrc, true) ? end : undefined;
}

function readEntry(frame: Uint8Array): JournalEntry | undefined {
  const kind = KINDS[frame[AT.kind] ?? 0];
  const body = frame.subarray(HEAD_BYTES);
  const fixedBytes = kind === 'put' ? PUT_BYTES : MARK_BYTES;
  if (frame[AT.version] !== VERSION || kind === undefined || body.length < fixedBytes) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const targetEnd = fixedBytes + view.getUint16(12, true);
  const nameEnd = targetEnd + view.getUint16(14, true);
  if (nameEnd > body.length) return undefined;
  const facts: EntryFacts = {
    target: decoder.decode(body.subarray(fixedBytes, targetEnd)),
    name: decoder.decode(body.subarray(targetEnd, nameEnd)),
    sequence: view.getFloat64(0, true),
    writer: view.getUint32(8, true),
  };
  if (kind !== 'put') return { kind, ...facts };
  const [token, expiresAtMs] = [view.getFloat64(16, true), view.getFloat64(24, true)];
  return { kind, ...facts, token, expiresAtMs, record: [body.subarray(nameEnd)] };
}
