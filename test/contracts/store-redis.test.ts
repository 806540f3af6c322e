import { after, before } from 'node:test';

import { RedisStore } from '../../src/stores/redis/index.ts';
import { testStore } from '../../src/stores/store-contract.ts';
import { freePort, type ServerProcess } from '../support/processes.ts';
import { startRedis } from '../support/redis-server.ts';

let server: ServerProcess;

before(async () => {
  server = await startRedis(await freePort());
});

after(() => server.kill());

const open = async (): Promise<RedisStore> => new RedisStore({ url: `redis://127.0.0.1:${server.port}` });

testStore('redis', { open, openAgain: open, keepsEpochs: true, grantsRights: true });
