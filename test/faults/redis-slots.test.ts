import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { createRedisStore } from '../../src/stores/redis/index.ts';
import { RedisCluster } from '../support/redis-cluster.ts';
import { endsByItself, type RedisServer } from '../support/redis-server.ts';

const NAMES = Array.from({ length: 48 }, (_, at) => `block/${at}`);

const valueOf = (name: string): Uint8Array => Buffer.alloc(20_000, `${name};`);

describe('a Cluster whose slots move', () => {
  it('is followed, to keys on their way and to those that arrived', async () => {
    await using cluster = await RedisCluster.start();
    await using store = createRedisStore({ cluster: [(cluster.nodes[0] as RedisServer).address] });
    for (const name of NAMES) await store.put(name, [valueOf(name)]);
    const key = `inferkv:r:${NAMES[7]}`;
    const from = await cluster.masterOf(key);
    const to = cluster.nodes.slice(0, 3).find((node) => node !== from) as RedisServer;
    const slot = await from.admin.cluster('KEYSLOT', key);
    const [fromId, toId] = await Promise.all([from.admin.cluster('MYID'), to.admin.cluster('MYID')]);
    await to.admin.cluster('SETSLOT', slot, 'IMPORTING', fromId);
    await from.admin.cluster('SETSLOT', slot, 'MIGRATING', toId);
    await from.admin.migrate(to.host, to.port, key, 0, 5000);
    const isThere = async (): Promise<void> => {
      const read = await store.getMany(NAMES);
      for (const [at, name] of NAMES.entries()) assert.equal(Buffer.compare(read[at] as Uint8Array, valueOf(name)), 0);
      assert.equal(await store.put(NAMES[7] as string, [valueOf(NAMES[7] as string)], { token: 0 }), 'stored');
    };
    await isThere();
    for (const { admin } of [to, from]) await admin.cluster('SETSLOT', slot, 'NODE', toId);
    await isThere();
    assert.equal(await store.delete(NAMES[7] as string), true);
  });

  it('does not keep a process alive that has nothing else to do', async () => {
    await using cluster = await RedisCluster.start();
    await endsByItself({ cluster: [(cluster.nodes[0] as RedisServer).address] });
  });
});
