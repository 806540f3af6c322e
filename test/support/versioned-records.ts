import { createHash } from 'node:crypto';

import { createRandom } from '../../src/base/random.ts';
import { openRecord, sealRecord } from '../../src/stores/record.ts';

const NOW_MS = 1_000_000;

/** A record whose content follows from its name, version and length, so that whoever reads it can tell what it must be. */
export function versionedRecord(name: string, version: number, length: number): readonly [Uint8Array, Uint8Array] {
  const digest = createHash('sha256').update(name).digest();
  return sealRecord({
    partition: 'test',
    digest,
    tenant: '',
    tags: [],
    metadata: new Uint8Array(0),
    payload: contentOf(name, version, length),
    costMs: version,
    expiresAtMs: Number.POSITIVE_INFINITY,
    madeAtMs: NOW_MS,
    token: 0,
  });
}

/** The version of a record that is whole; otherwise why it is not believed. `wrong` must never be: believed, and not what was written. */
export function versionOf(name: string, bytes: Uint8Array): number | string {
  const digest = createHash('sha256').update(name).digest();
  const record = openRecord(bytes, { partition: 'test', digest, nowMs: NOW_MS });
  if (typeof record === 'string') return record;
  const { payload, costMs } = record;
  return Buffer.compare(payload, contentOf(name, costMs, payload.length)) === 0 ? costMs : 'wrong';
}

function contentOf(name: string, version: number, length: number): Uint8Array {
  const seed = createHash('sha256').update(`${name} ${version}`).digest().readUInt32LE(0);
  const random = createRandom(seed);
  const content = new Uint8Array(length);
  const words = new Uint32Array(64).map(() => random.below(2 ** 32));
  const pattern = new Uint8Array(words.buffer);
  for (let at = 0; at < length; at += pattern.length) content.set(pattern.subarray(0, length - at), at);
  return content;
}
