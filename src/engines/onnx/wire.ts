/**
 * The protobuf wire format, as far as ONNX model files need it. Messages are kept as lists of chunks, so that 100 MB of
 * weights are named, framed and written without ever being copied.
 *
 * Source: https://protobuf.dev/programming-guides/encoding/
 */

/** An encoded message: its chunks in order, and their length together. */
export interface Message {
  readonly chunks: readonly Uint8Array[];
  readonly byteLength: number;
}

const WIRE_VARINT = 0;
const WIRE_BYTES = 2;
const WIRE_FIXED32 = 5;

const text = new TextEncoder();

function varint(value: bigint): Uint8Array {
  const encoded: number[] = [];
  // Negative numbers are ten bytes of two's complement, as the format asks.
  let rest = BigInt.asUintN(64, value);
  while (rest > 0x7fn) {
    encoded.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  encoded.push(Number(rest));
  return Uint8Array.from(encoded);
}

function tag(number: number, wireType: number): Uint8Array {
  return varint(BigInt((number << 3) | wireType));
}

/** Joins fields to one message. */
export function message(...fields: readonly Message[]): Message {
  return {
    chunks: fields.flatMap(({ chunks }) => chunks),
    byteLength: fields.reduce((sum, { byteLength }) => sum + byteLength, 0),
  };
}

function field(...chunks: Uint8Array[]): Message {
  return { chunks, byteLength: chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0) };
}

/** A field that holds an integer, an enumeration or a boolean. */
export function int(number: number, value: number | bigint): Message {
  return field(tag(number, WIRE_VARINT), varint(BigInt(value)));
}

/** A field that holds a 32-bit float. */
export function float(number: number, value: number): Message {
  return field(tag(number, WIRE_FIXED32), new Uint8Array(Float32Array.of(value).buffer));
}

/** A field that holds text or bytes; bytes are referred to, not copied. */
export function bytes(number: number, value: string | Uint8Array): Message {
  const payload = typeof value === 'string' ? text.encode(value) : value;
  return field(tag(number, WIRE_BYTES), varint(BigInt(payload.byteLength)), payload);
}

/** A field that holds another message. */
export function nested(number: number, value: Message): Message {
  return field(tag(number, WIRE_BYTES), varint(BigInt(value.byteLength)), ...value.chunks);
}

/** A repeated field of packed integers. */
export function packedInts(number: number, values: readonly number[]): Message {
  return nested(number, field(...values.map((value) => varint(BigInt(value)))));
}
