import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { RECORD_VECTORS } from '../../test/support/record-vectors.ts';

import {
  openRecord,
  sealRecord,
  tokenOf,
  type CacheRecord,
  type RecordExpectation,
  type SigningKey,
} from './record.ts';

const NOW = 1_800_000_000_000;
const KEY: SigningKey = { id: 7, secret: Buffer.from('a secret of thirty-two bytes ...') };
const OLD_KEY: SigningKey = { id: 3, secret: Buffer.from('the secret that was there before') };

const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });

const records: fc.Arbitrary<CacheRecord> = fc.record(
  {
    partition: fc.constantFrom('results', 'attention'),
    digest: bytes(32),
    tenant: fc.string({ unit: 'binary', maxLength: 20 }).filter((text) => text.isWellFormed()),
    tags: fc.array(
      fc.record(
        {
          tag: fc.string({ unit: 'binary', maxLength: 20 }).filter((text) => text.isWellFormed()),
          epoch: fc.nat(),
        },
        { noNullPrototype: true },
      ),
      { maxLength: 5 },
    ),
    metadata: fc.uint8Array({ maxLength: 200 }),
    payload: fc.uint8Array({ maxLength: 2000 }),
    costMs: fc.double({ min: 0, max: 1e9, noNaN: true }),
    expiresAtMs: fc.constantFrom(Number.POSITIVE_INFINITY, NOW + 1, NOW + 1e9),
    madeAtMs: fc.constantFrom(NOW, NOW - 1e6),
    token: fc.nat(),
  },
  { noNullPrototype: true },
);

const expected = ({ partition, digest, tenant }: CacheRecord): RecordExpectation => ({
  partition,
  digest,
  tenant,
  nowMs: NOW,
});

const VECTORS = JSON.parse(
  readFileSync(new URL('../../test/fixtures/record-vectors.json', import.meta.url), 'utf8'),
) as Readonly<Record<string, string>>;

describe('record', () => {
  it('has the bytes it has always had', () => {
    assert.deepEqual(Object.keys(VECTORS), Object.keys(RECORD_VECTORS));
    for (const [name, { record, signer }] of Object.entries(RECORD_VECTORS)) {
      assert.equal(Buffer.concat(sealRecord(record, signer)).toString('hex'), VECTORS[name], name);
      const kept = Buffer.from(VECTORS[name] ?? '', 'hex');
      const opened = openRecord(kept, { ...expected(record), signers: signer === undefined ? undefined : [signer] });
      assert.equal(typeof opened, 'object', name);
    }
  });

  it('is read back as it was written, its payload at a multiple of 64', () => {
    fc.assert(
      fc.property(records, fc.boolean(), (record, isSigned) => {
        const sealed = Buffer.concat(sealRecord(record, isSigned ? KEY : undefined));
        const opened = openRecord(sealed, { ...expected(record), ...(isSigned && { signers: [OLD_KEY, KEY] }) });
        assert.ok(typeof opened !== 'string');
        for (const field of Object.keys(record) as (keyof CacheRecord)[]) {
          const read: unknown = opened[field];
          if (read instanceof Uint8Array) assert.deepEqual([...read], [...(record[field] as Uint8Array)], field);
          else assert.deepEqual(read, record[field], field);
        }
        assert.equal((opened.payload.byteOffset - sealed.byteOffset) % 64, 0);
        assert.equal(tokenOf(sealed), record.token);
      }),
    );
  });

  it('is not believed when any bit of it is another, or it is cut, or longer', () => {
    fc.assert(
      fc.property(records, fc.boolean(), fc.nat(), (record, isSigned, at) => {
        const sealed = Buffer.concat(sealRecord(record, isSigned ? KEY : undefined));
        const expectation = { ...expected(record), ...(isSigned && { signers: [KEY] }) };
        const flipped = Buffer.from(sealed);
        const bit = at % (8 * sealed.length);
        flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
        assert.equal(typeof openRecord(flipped, expectation), 'string');
        assert.equal(typeof openRecord(sealed.subarray(0, at % sealed.length), expectation), 'string');
        assert.equal(openRecord(Buffer.concat([sealed, Buffer.alloc(1)]), expectation), 'length');
      }),
      { numRuns: 2000 },
    );
  });

  it('takes any bytes for what they are', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (garbage) => {
        const expectation = { partition: 'results', digest: new Uint8Array(32), nowMs: NOW };
        assert.equal(typeof openRecord(garbage, expectation), 'string');
      }),
    );
  });

  it('says why it is not believed', () => {
    const record: CacheRecord = {
      partition: 'results',
      digest: new Uint8Array(32).fill(5),
      tenant: 'a',
      tags: [],
      metadata: new Uint8Array(3),
      payload: new Uint8Array(100),
      costMs: 4,
      expiresAtMs: NOW + 1000,
      madeAtMs: NOW,
      token: 0,
    };
    const open = (
      change: Partial<CacheRecord>,
      wanted: Partial<RecordExpectation> = {},
      signer?: SigningKey,
    ): CacheRecord | string =>
      openRecord(Buffer.concat(sealRecord({ ...record, ...change }, signer)), { ...expected(record), ...wanted });
    assert.equal(open({ digest: new Uint8Array(32) }), 'key');
    assert.equal(open({ partition: 'attention' }), 'key');
    assert.equal(open({ tenant: 'b' }), 'tenant');
    assert.equal(typeof open({ tenant: 'b' }, { tenant: undefined }), 'object');
    assert.equal(open({ expiresAtMs: NOW }), 'expired');
    assert.equal(open({ madeAtMs: NOW + 60_000, expiresAtMs: NOW + 120_000 }), 'clock');
    assert.equal(typeof open({ madeAtMs: NOW + 60_000, expiresAtMs: Number.POSITIVE_INFINITY }), 'object');
    assert.equal(open({}, { signers: [KEY] }), 'unsigned');
    assert.equal(open({}, { signers: [KEY] }, OLD_KEY), 'signer');
    assert.equal(open({}, { signers: [KEY] }, { id: KEY.id, secret: OLD_KEY.secret }), 'signature');
    assert.equal(typeof open({}, { signers: [KEY, OLD_KEY] }, OLD_KEY), 'object');
  });
});
