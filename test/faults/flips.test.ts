import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';

import { createRandom } from '../../src/base/random.ts';
import { sealRecord, type CacheRecord, type SigningKey } from '../../src/stores/record.ts';
import { Tier } from '../../src/tiers/tier.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { STORES } from '../support/servers.ts';

const FLIPS = 10_000;
const RECORDS = 50;
const NOW = 1_800_000_000_000;
const KEY: SigningKey = { id: 1, secret: Buffer.from('sixteen bytes at least') };

const recordOf = (at: number): CacheRecord => ({
  partition: 'results',
  digest: createHash('sha256').update(String(at)).digest(),
  tenant: 'alice',
  tags: [{ tag: 'model:x', epoch: 7 }],
  metadata: Uint8Array.of(1, 2, 3),
  payload: Uint8Array.from({ length: 100 + 13 * at }, (_, byte) => (byte * at) & 255),
  costMs: 5,
  expiresAtMs: Number.POSITIVE_INFINITY,
  madeAtMs: NOW,
  token: 0,
});

// Flipped in their own files, items and answers those of disk, memcached and DynamoDB are in tests of their own.
for (const kind of ['shared-memory', 'redis']) {
  for (const signers of [undefined, [KEY]]) {
    describe(`flipped bits in ${kind}, ${signers === undefined ? 'unsigned' : 'signed'}`, () => {
      it(`${FLIPS} are all noticed, and counted by reason`, async () => {
        const running = await STORES[kind]?.();
        assert.ok(running !== undefined);
        const store = new FaultyStore(running.open(), createRandom(1));
        const tier = new Tier({ name: kind, store, signers, wallClock: () => NOW });
        const records = Array.from({ length: RECORDS }, (_, at) => recordOf(at));
        const put = async (at: number): Promise<void> => {
          await store.put(`flip/${at}`, sealRecord(records[at] as CacheRecord, signers?.[0]));
        };
        for (let at = 0; at < RECORDS; at++) await put(at);
        const get = (at: number): Promise<CacheRecord | undefined> => {
          const { partition, digest, tenant } = records[at] as CacheRecord;
          return tier.get({ name: `flip/${at}`, partition, digest, tenant });
        };
        assert.ok((await get(3)) !== undefined);
        for (let flip = 0; flip < FLIPS; flip++) {
          store.fault = 'flipped';
          assert.equal(await get(flip % RECORDS), undefined);
          // What is not believed was taken out.
          store.fault = undefined;
          await put(flip % RECORDS);
        }
        const { faults, hits } = tier.stats();
        assert.equal(hits, 1);
        assert.equal(
          Object.values(faults).reduce((sum, each) => sum + each, 0),
          FLIPS,
        );
        await store.close();
        await running.stop();
      });
    });
  }
}
