import { after, before, describe } from 'node:test';

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
