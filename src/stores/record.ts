import { createHmac, timingSafeEqual } from 'node:crypto';
import { crc32 } from 'node:zlib';

/**
 * A value as it leaves memory, with everything that must be known to trust it: docs/record.md.
 *
 * ```
 *    0 | "iKVr" | version, 16 bits | flags, 16 bits | header bytes, 32 bits | CRC-32 of the payload |
 *   16 | payload bytes, 64-bit float | cost in ms, 64-bit float | expiry, ms since 1970, 64-bit float | made, the same |
 *   48 | token, 64 bits, big-endian | id of the signing key, 32 bits | CRC-32 of the header |
 *   64 | HMAC-SHA-256 |
 *   96 | digest of the key |
 *  128 | partition | tenant | number of tags, 16 bits | each tag: text, epoch as 64-bit float | metadata: length, 32 bits, and bytes |
 *      | zeros to a multiple of 64 |
 *      | payload |
 * ```
 *
 * A text is its length in 16 bits and UTF-8. Numbers are little-endian, but for the token, which stores compare byte by byte.
 */
export interface CacheRecord {
  readonly partition: string;
  /** SHA-256 of the key, 32 bytes. */
  readonly digest: Uint8Array;
  /** Whose entry it is; `''` for nobody's in particular. */
  readonly tenant: string;
  /** Labels with the epochs that the value was made under. */
  readonly tags: readonly TagEpoch[];
  /** What the codec said of the value: types and shapes. */
  readonly metadata: Uint8Array;
  readonly payload: Uint8Array;
  readonly costMs: number;
  /** Milliseconds since 1970 by the writer's clock; `Infinity` for never. */
  readonly expiresAtMs: number;
  readonly madeAtMs: number;
  /** The fencing token it was written under; 0 for none. */
  readonly token: number;
}

/** A label, and its epoch. */
export interface TagEpoch {
  readonly tag: string;
  readonly epoch: number;
}

/** Why a record is not believed. */
export type RecordFault =
  /** It does not begin as a record does, or says of itself what cannot be. */
  | 'format'
  | 'version'
  /** It ends before its end, or after it. */
  | 'length'
  | 'checksum'
  /** It is another key's, or lies under another partition. */
  | 'key'
  | 'tenant'
  | 'unsigned'
  /** Signed by a key that is not known here. */
  | 'signer'
  | 'signature'
  | 'expired'
  /** It was made in the future: a clock has jumped, so that its expiry means nothing. */
  | 'clock'
  /** A tag of it was invalidated after the value was begun. */
  | 'epoch';

/** A secret that records are signed with. */
export interface SigningKey {
  /** 1 to 2^32 - 1; lies in the record. */
  readonly id: number;
  /** 16 bytes or more. */
  readonly secret: Uint8Array;
}

/** What is expected of a record that is read. */
export interface RecordExpectation {
  readonly partition: string;
  readonly digest: Uint8Array;
  /** Not checked if left out: the digest covers it, too. */
  readonly tenant?: string | undefined;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
  /** Keys that are believed; an unsigned record is not. Unsigned ones are expected if left out. */
  readonly signers?: readonly SigningKey[] | undefined;
}

const MAGIC = 0x7256_4b69;
const VERSION = 1;
const SIGNED = 1;
const FIXED_BYTES = 128;
const ALIGNMENT = 64;
const MAX_HEADER_BYTES = 1 << 20;
const MAX_TEXT = 0xffff;
/** Where the token lies, 8 bytes big-endian, for stores that compare tokens themselves. */
export const TOKEN_OFFSET = 48;
const AT = {
  flags: 6,
  header: 8,
  payloadCrc: 12,
  payload: 16,
  cost: 24,
  expires: 32,
  made: 40,
  signer: 56,
  headerCrc: 60,
  hmac: 64,
  digest: 96,
} as const;
const HMAC_BYTES = 32;
// Clocks of machines differ a little without anything being wrong.
const CLOCK_TOLERANCE_MS = 10_000;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

/** Whether texts and metadata of a record are within what its form can hold; what is not, cannot leave memory. */
export function isSealable({ partition, tenant, tags, metadata }: CacheRecord): boolean {
  const texts = [partition, tenant, ...tags.map(({ tag }) => tag)].map((text) => Buffer.byteLength(text));
  const headerBytes = texts.reduce(
    (sum, bytes) => sum + 2 + bytes,
    FIXED_BYTES + 6 + 8 * tags.length + metadata.length,
  );
  return (
    texts.every((bytes) => bytes <= MAX_TEXT) && tags.length <= MAX_TEXT && headerBytes <= MAX_HEADER_BYTES - ALIGNMENT
  );
}

/** A record in two parts: its header, and the payload as it was given. */
export function sealRecord(record: CacheRecord, signer?: SigningKey): readonly [Uint8Array, Uint8Array] {
  const { payload } = record;
  const body = sealBody(record);
  const headerBytes = Math.ceil((FIXED_BYTES + body.length) / ALIGNMENT) * ALIGNMENT;
  const header = new Uint8Array(headerBytes);
  const view = new DataView(header.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint16(4, VERSION, true);
  view.setUint16(AT.flags, signer === undefined ? 0 : SIGNED, true);
  view.setUint32(AT.header, headerBytes, true);
  view.setUint32(AT.payloadCrc, crc32(payload), true);
  view.setFloat64(AT.payload, payload.length, true);
  view.setFloat64(AT.cost, record.costMs, true);
  view.setFloat64(AT.expires, record.expiresAtMs, true);
  view.setFloat64(AT.made, record.madeAtMs, true);
  view.setBigUint64(TOKEN_OFFSET, BigInt(record.token), false);
  view.setUint32(AT.signer, signer?.id ?? 0, true);
  header.set(record.digest, AT.digest);
  header.set(body, FIXED_BYTES);
  if (signer !== undefined) header.set(signatureOf(header, payload, signer), AT.hmac);
  view.setUint32(AT.headerCrc, crc32(header), true);
  return [header, payload];
}

/**
 * The record in these bytes, or why they are not believed. The payload is a view of them: at a multiple of 64 from their
 * beginning. Epochs are the caller's to compare.
 */
export function openRecord(bytes: Uint8Array, expected: RecordExpectation): CacheRecord | RecordFault {
  if (bytes.length < FIXED_BYTES) return bytes.length === 0 ? 'format' : 'length';
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== MAGIC) return 'format';
  if (view.getUint16(4, true) !== VERSION) return 'version';
  const headerBytes = view.getUint32(AT.header, true);
  const payloadBytes = view.getFloat64(AT.payload, true);
  if (headerBytes % ALIGNMENT !== 0 || headerBytes < FIXED_BYTES || headerBytes > MAX_HEADER_BYTES) return 'format';
  if (headerBytes + payloadBytes !== bytes.length) return 'length';
  // A copy whatever kind of array it is: slice() of a Buffer would be a view.
  const header = Uint8Array.from(bytes.subarray(0, headerBytes));
  const payload = bytes.subarray(headerBytes);
  const fault = checksumFault(header, payload) ?? identityFault(header, expected);
  if (fault !== undefined) return fault;
  const unsigned = signatureFault(header, payload, expected.signers);
  if (unsigned !== undefined) return unsigned;
  const body = openBody(header);
  if (body === undefined) return 'format';
  const record: CacheRecord = {
    ...body,
    digest: header.subarray(AT.digest, FIXED_BYTES),
    payload,
    costMs: view.getFloat64(AT.cost, true),
    expiresAtMs: view.getFloat64(AT.expires, true),
    madeAtMs: view.getFloat64(AT.made, true),
    token: Number(view.getBigUint64(TOKEN_OFFSET, false)),
  };
  return beliefFault(record, expected) ?? record;
}

/** The token of a record that a store has in its hands; 0 for what is no record. */
export function tokenOf(start: Uint8Array): number {
  if (start.length < TOKEN_OFFSET + 8) return 0;
  return Number(new DataView(start.buffer, start.byteOffset, start.byteLength).getBigUint64(TOKEN_OFFSET, false));
}

function sealBody({ partition, tenant, tags, metadata }: CacheRecord): Uint8Array {
  const texts = [partition, tenant, ...tags.map(({ tag }) => tag)].map((text) => encoder.encode(text));
  const length = texts.reduce((sum, text) => sum + 2 + text.length, 2 + 8 * tags.length + 4 + metadata.length);
  const body = new Uint8Array(length);
  const view = new DataView(body.buffer);
  let at = 0;
  for (const [index, text] of texts.entries()) {
    view.setUint16(at, text.length, true);
    body.set(text, at + 2);
    at += 2 + text.length;
    // The tags come after partition and tenant, their number before them.
    if (index === 1) {
      view.setUint16(at, tags.length, true);
      at += 2;
    }
    if (index < 2) continue;
    view.setFloat64(at, tags[index - 2]?.epoch ?? 0, true);
    at += 8;
  }
  view.setUint32(at, metadata.length, true);
  body.set(metadata, at + 4);
  return body;
}

function openBody(header: Uint8Array): Pick<CacheRecord, 'partition' | 'tenant' | 'tags' | 'metadata'> | undefined {
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  let at = FIXED_BYTES;
  const text = (): string => {
    const end = at + 2 + view.getUint16(at, true);
    if (end > header.length) throw new RangeError();
    const read = decoder.decode(header.subarray(at + 2, end));
    at = end;
    return read;
  };
  try {
    const partition = text();
    const tenant = text();
    const count = view.getUint16(at, true);
    at += 2;
    const tags: TagEpoch[] = [];
    for (let left = count; left > 0; left--) {
      const tag = text();
      tags.push({ tag, epoch: view.getFloat64(at, true) });
      at += 8;
    }
    const end = at + 4 + view.getUint32(at, true);
    if (end > header.length) return undefined;
    return { partition, tenant, tags, metadata: header.subarray(at + 4, end) };
  } catch {
    // Offsets beyond the header and bytes that are no UTF-8.
    return undefined;
  }
}

function checksumFault(header: Uint8Array, payload: Uint8Array): RecordFault | undefined {
  const view = new DataView(header.buffer);
  const headerCrc = view.getUint32(AT.headerCrc, true);
  view.setUint32(AT.headerCrc, 0, true);
  if (crc32(header) !== headerCrc || crc32(payload) !== view.getUint32(AT.payloadCrc, true)) return 'checksum';
  return undefined;
}

function identityFault(header: Uint8Array, { digest }: RecordExpectation): RecordFault | undefined {
  return Buffer.compare(header.subarray(AT.digest, FIXED_BYTES), digest) === 0 ? undefined : 'key';
}

function signatureFault(
  header: Uint8Array,
  payload: Uint8Array,
  signers: readonly SigningKey[] | undefined,
): RecordFault | undefined {
  if (signers === undefined) return undefined;
  const view = new DataView(header.buffer);
  if ((view.getUint16(AT.flags, true) & SIGNED) === 0) return 'unsigned';
  const id = view.getUint32(AT.signer, true);
  const signer = signers.find((each) => each.id === id);
  if (signer === undefined) return 'signer';
  const given = header.slice(AT.hmac, AT.hmac + HMAC_BYTES);
  header.fill(0, AT.hmac, AT.hmac + HMAC_BYTES);
  return timingSafeEqual(given, signatureOf(header, payload, signer)) ? undefined : 'signature';
}

/** Over the whole header, without signature and checksum, and the payload: key, tenant, epochs and all. */
function signatureOf(header: Uint8Array, payload: Uint8Array, { secret }: SigningKey): Uint8Array {
  return createHmac('sha256', secret).update(header).update(payload).digest();
}

function beliefFault(record: CacheRecord, { partition, tenant, nowMs }: RecordExpectation): RecordFault | undefined {
  const { costMs, expiresAtMs, madeAtMs } = record;
  if (record.partition !== partition) return 'key';
  if (tenant !== undefined && record.tenant !== tenant) return 'tenant';
  if (!(costMs >= 0 && costMs < Number.POSITIVE_INFINITY) || Number.isNaN(expiresAtMs) || Number.isNaN(madeAtMs))
    return 'format';
  if (expiresAtMs === Number.POSITIVE_INFINITY) return undefined;
  if (expiresAtMs <= nowMs) return 'expired';
  return madeAtMs > nowMs + CLOCK_TOLERANCE_MS ? 'clock' : undefined;
}
