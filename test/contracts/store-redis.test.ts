import { after, before, describe } from 'node:test';

import { createRedisStore, type RedisStoreOptions } from '../../src/stores/redis/index.ts';
import { testStore } from '../../src/stores/store-contract.ts';
import { RedisCluster } from '../support/redis-cluster.ts';
import { RedisServer } from '../support/redis-server.ts';

describe('on one server', () => {
  let server: RedisServer;
  before(async () => {
    server = await RedisServer.start();
  });
  after(() => server[Symbol.asyncDispose]());
  runSuite('redis', () => ({ port: server.port }));
});

describe('on a Cluster', () => {
  let cluster: RedisCluster;
  before(async () => {
    cluster = await RedisCluster.start();
  });
  after(() => cluster[Symbol.asyncDispose]());
  runSuite('redis cluster', () => ({ cluster: cluster.nodes.slice(0, 2).map(({ address }) => address) }));
});

function runSuite(name: string, where: () => RedisStoreOptions): void {
  const open = async () => createRedisStore({ ...where(), maxRecordBytes: 64 * 2 ** 20 });
  testStore(name, { open, openAgain: open, keepsEpochs: true, grantsRights: true });
}
