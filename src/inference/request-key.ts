/**
 * The name of a result: a SHA-256 digest of everything that determines it, in an encoding in which no two different
 * requests have the same bytes. docs/request-key.md has the layout; test/fixtures/request-key-vectors.json holds it fast.
 */
import { createHash, hash } from 'node:crypto';

import { CanonicalWriter, type PlainValue } from '../base/canonical.ts';
import { bytesOf, isStrings, TYPE_NUMBER, type Tensor, type Tensors } from '../base/tensor.ts';
import type { Key } from '../cache/partition.ts';

/** What makes a model answer as it does, before any input. */
export interface ModelIdentity {
  /** SHA-256 of the model's content, hex. */
  readonly artifactDigest: string;
  readonly engine: string;
  readonly engineVersion: string;
  /** Settings of the session that may change its results' last bits. */
  readonly sessionOptions?: { readonly [name: string]: unknown } | undefined;
  /** Digest of the tokenizer, for language models. */
  readonly tokenizer?: string | undefined;
  /** Digest of an adapter's weights. */
  readonly adapter?: string | undefined;
}

/** A model's identity as 32 bytes; computed once and then part of every request's key. */
export type ModelKey = Uint8Array;

/** Parameters of a request. */
export type Parameters = { readonly [name: string]: PlainValue | undefined };

/** What tells one request to a model from another. */
export interface RequestIdentity {
  /** Names of the outputs asked for, in any order; all of them if left out. */
  readonly outputs?: readonly string[] | undefined;
  readonly parameters?: Parameters | undefined;
  readonly inputs: Tensors;
  /** Whose request it is; `''` for nobody's in particular. */
  readonly tenant?: string | undefined;
}

const MODEL_DOMAIN = 'inferkv/model-key/1';
const REQUEST_DOMAIN = 'inferkv/request-key/1';

// Part of the format, like the numbers of types: never change one, only add.
const FIELD = { outputs: 1, parameters: 2, tenant: 3, inputs: 4 } as const;

// Up to here copying into one buffer and hashing it in one call is faster than a hash object with several updates.
const ONE_SHOT_BYTES = 32 * 1024;

const writer = new CanonicalWriter();

/** The identity of a model as 32 bytes. */
export function modelKey(identity: ModelIdentity): ModelKey {
  writer.clear();
  writer.text(MODEL_DOMAIN);
  writer.text(identity.artifactDigest);
  writer.text(identity.engine);
  writer.text(identity.engineVersion);
  writer.plain(identity.sessionOptions ?? {});
  // Absent and empty are told apart.
  writer.plain(identity.tokenizer ?? null);
  writer.plain(identity.adapter ?? null);
  return hash('sha256', writer.written, 'buffer');
}

/**
 * The name of a result.
 *
 * @throws InferkvError `ERR_INFERKV_INPUT_INVALID` for texts that are no Unicode and parameters that have no canonical form
 */
export function requestKey(model: ModelKey, request: RequestIdentity): Key {
  const large: LargePart[] = [];
  writeRequest(model, request, large);
  if (large.length === 0) return hash('sha256', writer.written, 'hex');
  const digest = createHash('sha256');
  const { written } = writer;
  let from = 0;
  for (const { at, bytes } of large) {
    digest.update(written.subarray(from, at)).update(bytes);
    from = at;
  }
  return digest.update(written.subarray(from)).digest('hex');
}

/** The very bytes whose SHA-256 is the key; for tests and for those who write a client. */
export function encodeRequest(model: ModelKey, request: RequestIdentity): Uint8Array {
  const large: LargePart[] = [];
  writeRequest(model, request, large);
  const { written } = writer;
  const parts: Uint8Array[] = [];
  let from = 0;
  for (const { at, bytes } of large) {
    parts.push(written.subarray(from, at), bytes);
    from = at;
  }
  return Buffer.concat([...parts, written.subarray(from)]);
}

/** Bytes that belong at a place of what was written, and are hashed where they lie. */
interface LargePart {
  readonly at: number;
  readonly bytes: Uint8Array;
}

function writeRequest(model: ModelKey, request: RequestIdentity, large: LargePart[]): void {
  const { outputs, parameters, inputs, tenant = '' } = request;
  writer.clear();
  writer.text(REQUEST_DOMAIN);
  writer.raw(model);
  writer.u8(FIELD.outputs);
  writer.plain(outputs === undefined ? null : [...new Set(outputs)].toSorted(byCodeUnit));
  writer.u8(FIELD.parameters);
  writer.plain(parameters ?? {});
  writer.u8(FIELD.tenant);
  writer.text(tenant);
  writer.u8(FIELD.inputs);
  const names = Object.keys(inputs);
  if (names.length > 1) names.sort(byCodeUnit);
  writer.u64(names.length);
  for (const name of names) {
    writer.text(name);
    writeTensor(inputs[name] as Tensor, large);
  }
}

function writeTensor({ type, shape, data }: Tensor, large: LargePart[]): void {
  writer.u8(TYPE_NUMBER[type]);
  writer.u64(shape.length);
  for (const size of shape) writer.u64(size);
  if (isStrings(data)) {
    writer.u64(data.length);
    for (const each of data) writer.text(each);
    return;
  }
  const bytes = bytesOf(data);
  writer.u64(bytes.byteLength);
  if (writer.length + bytes.byteLength <= ONE_SHOT_BYTES) writer.raw(bytes);
  else large.push({ at: writer.length, bytes });
}

function byCodeUnit(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
