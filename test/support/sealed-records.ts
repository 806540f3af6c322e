import { createHash } from 'node:crypto';

import { createRandom } from '../../src/base/random.ts';
import { openRecord, sealRecord, type CacheRecord, type RecordFault } from '../../src/stores/record.ts';

const PARTITION = 'results';

/** A record of that name, sealed: its payload follows from the name alone, so that whoever reads it knows what it must be. */
export function sealedRecord(name: string, lengthBytes: number): readonly Uint8Array[] {
  return sealRecord({
    partition: PARTITION,
    digest: digestOf(name),
    tenant: '',
    tags: [{ tag: 'model:a', epoch: 7 }],
    metadata: Buffer.from('float32'),
    payload: payloadOf(name, lengthBytes),
    costMs: 12,
    expiresAtMs: Number.POSITIVE_INFINITY,
    madeAtMs: 0,
    token: 0,
  });
}

/** What a reader of that name makes of these bytes. `'wrong'` is what must never be: a value that is believed, and another's. */
export function judge(name: string, lengthBytes: number, bytes: Uint8Array): 'right' | 'wrong' | RecordFault {
  const opened: CacheRecord | RecordFault = openRecord(bytes, {
    partition: PARTITION,
    digest: digestOf(name),
    nowMs: 1,
  });
  if (typeof opened === 'string') return opened;
  return Buffer.compare(opened.payload, payloadOf(name, lengthBytes)) === 0 ? 'right' : 'wrong';
}

function digestOf(name: string): Uint8Array {
  return createHash('sha256').update(name).digest();
}

function payloadOf(name: string, lengthBytes: number): Uint8Array {
  const random = createRandom(digestOf(name)[0] as number);
  const start = Buffer.from(`${name}:${lengthBytes}:`);
  const payload = Buffer.alloc(Math.max(lengthBytes, start.length), random.below(256));
  payload.set(start);
  // So that no stretch of it is like another.
  for (let at = start.length; at + 4 <= payload.length; at += 64) payload.writeUInt32LE(at, at);
  return payload;
}
