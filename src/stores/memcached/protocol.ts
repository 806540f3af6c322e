/**
 * Frames of memcached's binary protocol, which every SASL server speaks, and which has what a store needs in one round trip:
 * values with a CAS number, and counters that begin with a given number.
 *
 * ```
 *  0 | magic | opcode | key length, 16 bits | extras length | data type | status, 16 bits |
 *  8 | bytes after the header, 32 bits | opaque, 32 bits | CAS, 64 bits |
 * 24 | extras | key | value |
 * ```
 *
 * Source: https://github.com/memcached/memcached/wiki/BinaryProtocolRevamped
 */
export const OPCODE = {
  get: 0x00,
  set: 0x01,
  add: 0x02,
  delete: 0x04,
  increment: 0x05,
  saslAuth: 0x21,
} as const;

/** What a server says of a request. */
export const STATUS = {
  ok: 0x00,
  notFound: 0x01,
  exists: 0x02,
  tooLarge: 0x03,
  notStored: 0x05,
  unauthorized: 0x20,
  outOfMemory: 0x82,
} as const;

/** Bytes of a header. */
export const HEADER_BYTES = 24;
const REQUEST_MAGIC = 0x80;
const RESPONSE_MAGIC = 0x81;

/** One request. */
export interface Request {
  readonly opcode: number;
  readonly key: string;
  readonly extras?: Uint8Array;
  readonly value?: readonly Uint8Array[];
  /** What must lie there for it to be done; anything if left out. */
  readonly cas?: bigint;
}

/** One answer. Its value is memory of its own. */
export interface Response {
  readonly opcode: number;
  readonly status: number;
  readonly opaque: number;
  readonly cas: bigint;
  /** The first 32 bits of the extras: the flags of a value. */
  readonly flags: number;
  readonly value: Uint8Array;
}

const NO_BYTES = new Uint8Array();

/** The bytes of a request. The value is copied: once it is given up, nobody reads the caller's memory any more. */
export function encodeRequest(
  { opcode, key, extras = NO_BYTES, value = [], cas = 0n }: Request,
  opaque: number,
): Buffer {
  const keyBytes = Buffer.byteLength(key, 'latin1');
  const bodyBytes = value.reduce((sum, { length }) => sum + length, extras.length + keyBytes);
  const frame = Buffer.allocUnsafe(HEADER_BYTES + bodyBytes);
  frame.fill(0, 0, HEADER_BYTES);
  frame[0] = REQUEST_MAGIC;
  frame[1] = opcode;
  frame.writeUInt16BE(keyBytes, 2);
  frame[4] = extras.length;
  frame.writeUInt32BE(bodyBytes, 8);
  frame.writeUInt32BE(opaque, 12);
  frame.writeBigUInt64BE(cas, 16);
  frame.set(extras, HEADER_BYTES);
  frame.write(key, HEADER_BYTES + extras.length, 'latin1');
  let at = HEADER_BYTES + extras.length + keyBytes;
  for (const part of value) {
    frame.set(part, at);
    at += part.length;
  }
  return frame;
}

/** Extras of `set` and `add`. */
export function storeExtras(flags: number, expiration: number): Uint8Array {
  const extras = Buffer.allocUnsafe(8);
  extras.writeUInt32BE(flags, 0);
  extras.writeUInt32BE(expiration, 4);
  return extras;
}

/** Extras of `increment`: by how much, and what to begin with where nothing is; it stays until there is need of room. */
export function counterExtras(delta: number, initial: number): Uint8Array {
  const extras = Buffer.allocUnsafe(20);
  extras.writeBigUInt64BE(BigInt(delta), 0);
  extras.writeBigUInt64BE(BigInt(initial), 8);
  extras.writeUInt32BE(0, 16);
  return extras;
}

/**
 * Takes answers out of what arrives, in whatever pieces. A value is copied once, into memory of its own.
 *
 * @throws Error from `push` if these are no answers, or one says that it is longer than `maxBodyBytes`
 */
export class ResponseReader {
  readonly #maxBodyBytes: number;
  readonly #answered: (response: Response) => void;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerHas = 0;
  #lead = Buffer.alloc(0);
  #leadHas = 0;
  #value: Uint8Array = NO_BYTES;
  #valueHas = 0;

  constructor(maxBodyBytes: number, answered: (response: Response) => void) {
    this.#maxBodyBytes = maxBodyBytes;
    this.#answered = answered;
  }

  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#headerHas < HEADER_BYTES) {
        const taken = copyInto(this.#header, this.#headerHas, chunk, at);
        this.#headerHas += taken;
        at += taken;
        if (this.#headerHas < HEADER_BYTES) return;
        this.#begin();
      }
      if (this.#leadHas < this.#lead.length) {
        const taken = copyInto(this.#lead, this.#leadHas, chunk, at);
        this.#leadHas += taken;
        at += taken;
      }
      const taken = copyInto(this.#value, this.#valueHas, chunk, at);
      this.#valueHas += taken;
      at += taken;
      if (this.#leadHas === this.#lead.length && this.#valueHas === this.#value.length) this.#end();
    }
  }

  #begin(): void {
    const header = this.#header;
    if (header[0] !== RESPONSE_MAGIC) throw new Error('what came is no answer in the binary protocol');
    const leadBytes = header.readUInt16BE(2) + (header[4] as number);
    const bodyBytes = header.readUInt32BE(8);
    if (bodyBytes > this.#maxBodyBytes) throw new Error(`an answer of ${bodyBytes} bytes is longer than any item`);
    if (leadBytes > bodyBytes) throw new Error('an answer is shorter than its key');
    this.#lead = Buffer.alloc(leadBytes);
    this.#leadHas = 0;
    this.#value = new Uint8Array(bodyBytes - leadBytes);
    this.#valueHas = 0;
  }

  #end(): void {
    const header = this.#header;
    this.#headerHas = 0;
    this.#answered({
      opcode: header[1] as number,
      status: header.readUInt16BE(6),
      opaque: header.readUInt32BE(12),
      cas: header.readBigUInt64BE(16),
      flags: (header[4] as number) >= 4 ? this.#lead.readUInt32BE(0) : 0,
      value: this.#value,
    });
  }
}

function copyInto(target: Uint8Array, has: number, chunk: Uint8Array, at: number): number {
  const taken = Math.min(target.length - has, chunk.length - at);
  if (taken > 0) target.set(chunk.subarray(at, at + taken), has);
  return taken;
}
