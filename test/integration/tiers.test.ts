import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';

import { systemClock } from '../../src/base/clock.ts';
import { createInferenceCache, isInferkvError, tensor, type InferenceCacheOptions } from '../../src/index.ts';
import { FakeLibrary } from '../support/fake-library.ts';
import { MapServer, MapStore } from '../support/map-store.ts';
import { freePort, RedisServer } from '../support/redis-server.ts';
import { TempFolder } from '../support/temp.ts';
import { until } from '../support/until.ts';

const input = (value: number): { readonly x: ReturnType<typeof tensor> } => ({
  x: tensor(Float32Array.of(value, 1, 2), [1, 3]),
});

const signingKeys = [{ id: 1, secret: 'sixteen characters or more' }];

/** A node: a cache with an engine of its own, in real time. */
const node = (options: InferenceCacheOptions): FakeLibrary => new FakeLibrary({ clock: systemClock, ...options });

describe('tiers of a cache', () => {
  let redis: RedisServer;
  before(async () => {
    redis = await RedisServer.start();
  });
  after(() => redis[Symbol.asyncDispose]());

  const withRedis = (prefix: string, options: InferenceCacheOptions = {}): FakeLibrary =>
    node({
      tiers: { redis: { store: 'redis', port: redis.port, keyPrefix: prefix, signingKeys } },
      ...options,
    });

  it('keep results over a restart, on disk', async () => {
    using folder = new TempFolder();
    const tiers = { disk: { store: 'disk', folder: folder.path, budgetBytes: '64MB' } } as const;
    await using first = node({ tiers });
    const computed = await first.model('small').run(input(1), { tenant: 'alice' });
    assert.equal(computed.cache.status, 'miss');
    await first.cache.close();
    await using second = node({ tiers });
    const model = second.model('small');
    const found = await model.run(input(1), { tenant: 'alice' });
    assert.deepEqual([found.cache.status, found.cache.tier, found.cache.costMs], ['hit', 'disk', 10]);
    assert.deepEqual(found.outputs, computed.outputs);
    assert.equal(second.engine.sessions.length, 0, 'no model was loaded for it');
    assert.equal((await model.run(input(1), { tenant: 'alice' })).cache.tier, 'memory', 'it was promoted');
    assert.equal((await model.run(input(1), { tenant: 'bob' })).cache.status, 'miss', 'tenants are apart');
    assert.equal(second.cache.tiers().tiers[0]?.hits, 1);
  });

  it('share results between nodes, and invalidations within a second', async () => {
    await using one = withRedis('shared:');
    await using two = withRedis('shared:');
    await one.model('small').run(input(1));
    await one.cache.flush();
    const model = two.model('small');
    assert.equal((await model.run(input(1))).cache.tier, 'remote');
    assert.equal((await model.run(input(1))).cache.tier, 'memory');
    const start = performance.now();
    one.cache.invalidate({ model: 'small' });
    await until(async () => two.cache.stats().results.entries === 0);
    assert.ok(performance.now() - start < 1000);
    assert.equal((await model.run(input(1))).cache.status, 'miss', 'nor does it come back from Redis');
  });

  it('compute once for all nodes', async () => {
    await using one = withRedis('once:');
    await using two = withRedis('once:');
    const [here, there] = [one.model('small'), two.model('small')];
    const answers = await Promise.all([here, there, here, there].map((model) => model.run(input(5))));
    const statuses = answers.map(({ cache }) => cache.status);
    assert.equal(statuses.filter((status) => status === 'miss').length, 1, statuses.join());
    assert.equal(one.engine.sessions.length + two.engine.sessions.length, 1, 'one node has loaded the model');
  });

  it('hold writes back, and write them when they are closed', async () => {
    using journal = new TempFolder();
    const server = new MapServer();
    const options: InferenceCacheOptions = {
      tiers: { slow: { store: new MapStore('slow', server), back: { folder: journal.path, durability: 'every' } } },
      partitions: { results: { tiers: [{ tier: 'slow', write: 'back' }] } },
    };
    await using one = node(options);
    await one.model('small').run(input(1));
    await until(() => one.cache.tiers().tiers[0]?.back?.dirtyEntries === 1);
    const isRecord = (name: string): boolean => name.startsWith('results/');
    assert.equal([...server.records.keys()].filter(isRecord).length, 0, 'not yet');
    assert.equal(one.cache.tiers().tiers[0]?.back?.dirtyEntries, 1);
    assert.equal(readdirSync(journal.path).length, 1);
    await one.cache.close();
    assert.equal([...server.records.keys()].filter(isRecord).length, 1);
    assert.equal(readdirSync(journal.path).length, 0, 'and the journal is gone');
  });

  it('send down what is dear, or used often', async () => {
    const server = new MapServer();
    await using one = node({
      tiers: { far: { store: new MapStore('far', server) } },
      partitions: { results: { tiers: [{ tier: 'far', minUses: 2, minCostMs: 11 }] } },
    });
    const model = one.model('small');
    await model.run(input(1));
    await model.run(input(1));
    await one.cache.flush();
    assert.equal(server.records.size, 0);
    await model.run(input(1));
    await new Promise(setImmediate);
    await one.cache.flush();
    assert.equal(server.records.size, 1);
  });

  it('go on without any of their stores', async () => {
    const dead = await freePort();
    await using one = node({
      tiers: {
        redis: { store: 'redis', url: `redis://127.0.0.1:${dead}`, signingKeys },
        memcached: { store: 'memcached', servers: [`127.0.0.1:${dead}`], signingKeys },
        dynamodb: {
          store: 'dynamodb',
          table: 'none',
          endpoint: `http://127.0.0.1:${dead}`,
          region: 'nowhere',
          sdkOptions: { credentials: { accessKeyId: 'a', secretAccessKey: 'b' } },
          signingKeys,
        },
      },
    });
    const model = one.model('small');
    for (let run = 0; run < 20; run++) assert.equal((await model.run(input(run))).cache.status, 'miss');
    const { epochs } = one.cache.tiers();
    assert.equal(epochs.tags, 0, 'as nobody can say what was invalidated, nothing is kept');
  });

  it('say what is wrong with their settings', () => {
    const wrong: readonly InferenceCacheOptions[] = [
      { tiers: { redis: { store: 'redis' } } },
      { tiers: { 'a b': { store: 'disk', folder: 'x' } } },
      { partitions: { results: { tiers: ['redis'] } } },
      {
        tiers: { disk: { store: 'disk', folder: '/tmp/inferkv-never' } },
        partitions: { results: { tiers: ['disk', 'disk'] } },
      },
      { tiers: { disk: { store: 'floppy', folder: 'x' } } } as unknown as InferenceCacheOptions,
    ];
    for (const options of wrong) {
      assert.throws(
        () => createInferenceCache(options),
        (error) => isInferkvError(error, 'ERR_INFERKV_CONFIG_INVALID'),
      );
    }
  });
});
