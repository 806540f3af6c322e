import { createHash } from 'node:crypto';

import type { CacheRecord, SigningKey } from '../../src/stores/record.ts';

/** Records whose bytes are fixed for ever (test/fixtures/record-vectors.json), each with the key it is signed by, if any. */
export const RECORD_VECTORS: Readonly<Record<string, { readonly record: CacheRecord; readonly signer?: SigningKey }>> =
  {
    'the plainest': {
      record: {
        partition: 'results',
        digest: digestOf('plain'),
        tenant: '',
        tags: [],
        metadata: new Uint8Array(0),
        payload: new Uint8Array(0),
        costMs: 0,
        expiresAtMs: Number.POSITIVE_INFINITY,
        madeAtMs: 1_800_000_000_000,
        token: 0,
      },
    },
    'everything in it': {
      record: {
        partition: 'attention',
        digest: digestOf('full'),
        tenant: 'Müller & Söhne',
        tags: [
          { tag: 'model:0123', epoch: 1_800_000_000_001 },
          { tag: 'tenant:Müller & Söhne', epoch: 1_799_999_999_999 },
        ],
        metadata: Uint8Array.from({ length: 37 }, (_, at) => 255 - at),
        payload: Uint8Array.from({ length: 300 }, (_, at) => (at * 7) & 255),
        costMs: 12.5,
        expiresAtMs: 1_800_000_060_000,
        madeAtMs: 1_800_000_000_000.25,
        token: 2 ** 40 + 3,
      },
      signer: { id: 4_000_000_000, secret: Buffer.from('0123456789abcdef0123456789abcdef') },
    },
  };

function digestOf(text: string): Uint8Array {
  return createHash('sha256').update(text).digest();
}
