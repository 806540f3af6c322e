import { after, before } from 'node:test';

import { MemcachedStore } from '../../src/stores/memcached/index.ts';
import { testStore } from '../../src/stores/store-contract.ts';
import { startMemcached } from '../support/memcached-server.ts';
import { freePort, type ServerProcess } from '../support/processes.ts';

const servers: ServerProcess[] = [];

before(async () => {
  for (let count = 0; count < 3; count++) servers.push(await startMemcached(await freePort(), '-m', '256'));
});

after(() => Promise.all(servers.map((server) => server.kill())));

const storeOf = (from: number, to: number) => async (): Promise<MemcachedStore> =>
  new MemcachedStore({ servers: servers.slice(from, to).map(({ port }) => `127.0.0.1:${port}`) });

const one = storeOf(0, 1);
const two = storeOf(1, 3);
const traits = { keepsEpochs: true, grantsRights: true, ttlMs: 1000 };

testStore('memcached', { open: one, openAgain: one, ...traits });
testStore('memcached, two servers', { open: two, openAgain: two, ...traits });
