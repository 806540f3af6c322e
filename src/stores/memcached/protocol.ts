/** Operations of Memcached's binary protocol, which is the one that SASL goes with. */
export const OPCODE = { get: 0x00, set: 0x01, add: 0x02, delete: 0x04, increment: 0x05, saslAuth: 0x21 } as const;

/** What a server says of an operation. */
export const STATUS = {
  ok: 0x00,
  notFound: 0x01,
  exists: 0x02,
  tooLarge: 0x03,
  notStored: 0x05,
  authError: 0x20,
  noMemory: 0x82,
} as const;

/** A question. Values are not copied before they are sent. */
export interface MemcachedRequest {
  readonly opcode: number;
  readonly key: string;
  readonly extras?: Uint8Array;
  readonly value?: readonly Uint8Array[];
  /** 0n for any. */
  readonly cas?: bigint;
}

/** An answer; its value is the receiver's own memory. */
export interface MemcachedResponse {
  readonly status: number;
  readonly cas: bigint;
  readonly extras: Uint8Array;
  readonly value: Uint8Array;
}

const HEADER_BYTES = 24;
const REQUEST = 0x80;
const RESPONSE = 0x81;

/** A question as it is sent, in parts. */
export function encodeRequest(
  { opcode, key, extras, value = [], cas = 0n }: MemcachedRequest,
  opaque: number,
): readonly Uint8Array[] {
  const keyBytes = Buffer.byteLength(key, 'latin1');
  const extrasBytes = extras?.length ?? 0;
  const valueBytes = value.reduce((sum, { length }) => sum + length, 0);
  const start = Buffer.alloc(HEADER_BYTES + extrasBytes + keyBytes);
  start[0] = REQUEST;
  start[1] = opcode;
  start.writeUInt16BE(keyBytes, 2);
  start[4] = extrasBytes;
  start.writeUInt32BE(extrasBytes + keyBytes + valueBytes, 8);
  start.writeUInt32BE(opaque, 12);
  start.writeBigUInt64BE(cas, 16);
  if (extras !== undefined) start.set(extras, HEADER_BYTES);
  start.write(key, HEADER_BYTES + extrasBytes, 'latin1');
  return [start, ...value];
}

/** Puts answers together from what comes over the line, copying each byte once. */
export class ResponseReader {
  readonly #maxBodyBytes: number;
  readonly #onResponse: (response: MemcachedResponse, opaque: number) => void;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  #body: Buffer | undefined;
  #bodyBytes = 0;

  constructor(maxBodyBytes: number, onResponse: (response: MemcachedResponse, opaque: number) => void) {
    this.#maxBodyBytes = maxBodyBytes;
    this.#onResponse = onResponse;
  }

  /** @throws Error for what is no answer: nothing more on this line can be understood */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length || (this.#body !== undefined && this.#bodyBytes === this.#body.length)) {
      if (this.#body === undefined) {
        const taken = Math.min(HEADER_BYTES - this.#headerBytes, chunk.length - at);
        this.#header.set(chunk.subarray(at, at + taken), this.#headerBytes);
        this.#headerBytes += taken;
        at += taken;
        if (this.#headerBytes < HEADER_BYTES) return;
        this.#body = this.#makeBody();
        this.#bodyBytes = 0;
      }
      const taken = Math.min(this.#body.length - this.#bodyBytes, chunk.length - at);
      this.#body.set(chunk.subarray(at, at + taken), this.#bodyBytes);
      this.#bodyBytes += taken;
      at += taken;
      if (this.#bodyBytes === this.#body.length) this.#deliver(this.#body);
    }
  }

  #makeBody(): Buffer {
    const bytes = this.#header.readUInt32BE(8);
    const keyAndExtras = this.#header.readUInt16BE(2) + (this.#header[4] as number);
    if (this.#header[0] !== RESPONSE || bytes > this.#maxBodyBytes || keyAndExtras > bytes) {
      throw new Error('the server answered what is no answer of Memcached');
    }
    return Buffer.allocUnsafeSlow(bytes);
  }

  #deliver(body: Buffer): void {
    const header = this.#header;
    const extrasBytes = header[4] as number;
    const valueAt = extrasBytes + header.readUInt16BE(2);
    const response = {
      status: header.readUInt16BE(6),
      cas: header.readBigUInt64BE(16),
      extras: body.subarray(0, extrasBytes),
      value: body.subarray(valueAt),
    };
    this.#headerBytes = 0;
    this.#body = undefined;
    this.#onResponse(response, header.readUInt32BE(12));
  }
}
