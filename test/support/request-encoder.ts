/**
 * The request key once more, written from docs/request-key.md alone and for clearness instead of speed: what the library
 * makes has to agree with it.
 */
import { createHash } from 'node:crypto';

import type { PlainValue } from '../../src/base/canonical.ts';
import type { Tensor } from '../../src/base/tensor.ts';
import type { ModelIdentity, RequestIdentity } from '../../src/inference/request-key.ts';

const TYPES = [
  ...['float32', 'uint8', 'int8', 'uint16', 'int16', 'int32', 'int64', 'string', 'bool', 'float16', 'float64'],
  ...['uint32', 'uint64'],
];
const FOUR_BITS: Readonly<Record<string, number>> = { uint4: 21, int4: 22 };

const u8 = (value: number): Buffer => Buffer.of(value);

function u64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'utf8');
  return Buffer.concat([u64(bytes.length), bytes]);
}

function plain(value: PlainValue): Buffer {
  if (value === null) return u8(0);
  if (typeof value === 'boolean') return u8(value ? 2 : 1);
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(8);
    // The one NaN, and the one zero.
    if (Number.isNaN(value)) bytes.writeBigUInt64LE(0x7ff8000000000000n);
    else bytes.writeDoubleLE(Object.is(value, -0) ? 0 : value);
    return Buffer.concat([u8(3), bytes]);
  }
  if (typeof value === 'string') return Buffer.concat([u8(4), text(value)]);
  if (typeof value === 'bigint') return Buffer.concat([u8(7), text(String(value))]);
  if (isList(value)) return Buffer.concat([u8(5), u64(value.length), ...value.map(plain)]);
  const names = Object.keys(value).filter((name) => value[name] !== undefined);
  names.sort();
  return Buffer.concat([
    u8(6),
    u64(names.length),
    ...names.flatMap((name) => [text(name), plain(value[name] as PlainValue)]),
  ]);
}

function isList(value: PlainValue): value is readonly PlainValue[] {
  return Array.isArray(value);
}

function encodeTensor({ type, shape, data }: Tensor): Buffer {
  const head = [u8(FOUR_BITS[type] ?? TYPES.indexOf(type) + 1), u64(shape.length), ...shape.map(u64)];
  if (!ArrayBuffer.isView(data)) return Buffer.concat([...head, u64(data.length), ...data.map(text)]);
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return Buffer.concat([...head, u64(bytes.length), bytes]);
}

/** The 32 bytes that stand for a model. */
export function plainModelKey(identity: ModelIdentity): Buffer {
  const { artifactDigest, engine, engineVersion, sessionOptions = {}, tokenizer = null, adapter = null } = identity;
  const bytes = Buffer.concat([
    text('inferkv/model-key/1'),
    text(artifactDigest),
    text(engine),
    text(engineVersion),
    plain(sessionOptions as PlainValue),
    plain(tokenizer),
    plain(adapter),
  ]);
  return createHash('sha256').update(bytes).digest();
}

/** The bytes whose digest is the key. */
export function plainEncoding(model: Uint8Array, request: RequestIdentity): Buffer {
  const { outputs, parameters = {}, inputs, tenant = '' } = request;
  const names = Object.keys(inputs);
  names.sort();
  return Buffer.concat([
    text('inferkv/request-key/1'),
    model,
    u8(1),
    plain(outputs === undefined ? null : [...new Set(outputs)].toSorted()),
    u8(2),
    plain(parameters),
    u8(3),
    text(tenant),
    u8(4),
    u64(names.length),
    ...names.flatMap((name) => [text(name), encodeTensor(inputs[name] as Tensor)]),
  ]);
}
