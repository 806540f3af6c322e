import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { Client } from 'memjs';

import { createMemcachedStore } from '../../src/stores/memcached/index.ts';
import { testStore } from '../../src/stores/store-contract.ts';
import { MemcachedServer, memcachedMissing } from '../support/memcached-server.ts';

for (const count of [1, 2]) {
  describe(`memcached, ${count} servers`, { skip: memcachedMissing() }, () => {
    const servers: MemcachedServer[] = [];
    before(async () => {
      for (let left = count; left > 0; left--) servers.push(await MemcachedServer.start());
    });
    after(() => Promise.all(servers.map((server) => server.kill())));
    const open = async () => createMemcachedStore({ servers: servers.map(({ address }) => address) });

    testStore(`memcached on ${count}`, { open, openAgain: open, ttlMs: 1000, keepsEpochs: true, grantsRights: true });
  });
}

describe('memcached, seen by another client', { skip: memcachedMissing() }, () => {
  it('has records under their names, as they are', async () => {
    await using server = await MemcachedServer.start();
    await using store = createMemcachedStore({ servers: [server.address] });
    const client = Client.create(server.address);
    try {
      await store.put('plain', [Uint8Array.of(1, 2), Uint8Array.of(255, 0)]);
      assert.deepEqual([...((await client.get('inferkv:r:plain')).value ?? [])], [1, 2, 255, 0]);
      // What others wrote under our name is none of ours.
      await client.set('inferkv:r:foreign', 'anything', {});
      assert.equal(await store.get('foreign'), undefined);
    } finally {
      client.close();
    }
  });
});
