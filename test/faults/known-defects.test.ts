/** What went wrong in other caches, by where it was reported: it must not go wrong here. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';

import { createRandom } from '../../src/base/random.ts';
import {
  createInferenceCache,
  tensor,
  type CacheReport,
  type Engine,
  type InferenceCache,
  type InferenceCacheOptions,
  type RunResult,
  type Session,
  type Tensors,
} from '../../src/index.ts';
import { createDiskStore } from '../../src/stores/disk/index.ts';
import type { Store } from '../../src/stores/store.ts';
import { CountingSession } from '../support/counting-session.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { MapServer, MapStore } from '../support/map-store.ts';
import { STORES } from '../support/servers.ts';
import { TempFolder } from '../support/temp.ts';

interface Node extends AsyncDisposable {
  readonly cache: InferenceCache;
  readonly session: CountingSession;
  ask(x: number, tenant?: string): Promise<CacheReport>;
}

/** A cache that has no results in memory over one store, and a model whose wrong answers show. */
async function nodeOver(store: Store, options: InferenceCacheOptions = {}, computeMs = 1000): Promise<Node> {
  const session = new CountingSession(20_000);
  session.computeMs = computeMs;
  const repository = new TempFolder();
  repository.write('count/1/model.count', 'counts');
  const engine: Engine = { name: 'counting', version: '1', extensions: ['.count'], load: async () => session };
  const cache = createInferenceCache({
    repository: repository.path,
    engines: [engine],
    tiers: { under: { store, deadlineMs: 200, writeDeadlineMs: 200 } },
    partitions: { results: { write: 'around', promotion: 'never' } },
    singleFlight: 'off',
    ...options,
  });
  const model = cache.model('count');
  return {
    cache,
    session,
    ask: async (x, tenant) => {
      const answer = await model.run(CountingSession.input(x), tenant === undefined ? {} : { tenant });
      assert.ok(session.isAnswer(x, answer.outputs), `a wrong answer to ${x}`);
      await cache.flush();
      return answer.cache;
    },
    [Symbol.asyncDispose]: async () => {
      await cache.close();
      repository[Symbol.dispose]();
    },
  };
}

const faultsOf = ({ cache }: Node): Readonly<Record<string, number | undefined>> =>
  cache.tiers().tiers[0]?.faults ?? {};

const diskIn = (folder: string): Store => createDiskStore({ folder, budgetBytes: 16 * 2 ** 20 });

/** Files of a folder, however deep. */
function filesIn(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((each) => each.isFile())
    .map((each) => join(each.parentPath, each.name));
}

describe('defects of others', () => {
  it('1, LMCache#4385: a disk tier that answers with another request’s content', async () => {
    using folder = new TempFolder();
    const store = new FaultyStore(diskIn(folder.path), createRandom(1));
    await using node = await nodeOver(store);
    for (let x = 0; x < 8; x++) await node.ask(x);
    store.fault = 'other';
    for (let x = 0; x < 8; x++) await node.ask(x);
    assert.ok((faultsOf(node)['key'] ?? 0) > 0, 'and it is counted');
  });

  it('2, LMCache#4492: after a restart every answer was corrupt', async () => {
    using folder = new TempFolder();
    {
      await using node = await nodeOver(diskIn(folder.path));
      for (let x = 0; x < 8; x++) await node.ask(x);
    }
    for (const path of filesIn(folder.path)) {
      if (path.includes('.mdb') || path.endsWith('.json')) continue;
      const bytes = readFileSync(path);
      for (let at = 100; at < bytes.length; at += 5000) bytes[at] = (bytes[at] as number) ^ 4;
      writeFileSync(path, bytes);
    }
    await using node = await nodeOver(diskIn(folder.path));
    for (let x = 0; x < 8; x++) assert.equal((await node.ask(x)).status, 'miss');
  });

  it('3, LMCache#4991: what could not be stored stayed visible to lookups', async () => {
    const server = new MapServer();
    const store = new FaultyStore(new MapStore('map', server), createRandom(1));
    await using node = await nodeOver(store);
    store.fault = 'full';
    await node.ask(1);
    store.fault = undefined;
    assert.equal((await node.ask(1)).status, 'miss');
    assert.equal((await node.ask(1)).tier, 'remote');
  });

  it('4, sglang#37058 and LMCache#4825: a tenant read what another wrote, below the first tier', async () => {
    const server = new MapServer();
    await using node = await nodeOver(new MapStore('map', server));
    await node.ask(1, 'alice');
    assert.equal((await node.ask(1, 'bob')).status, 'miss');
    assert.equal((await node.ask(1)).status, 'miss');
    assert.equal((await node.ask(1, 'alice')).status, 'hit');
    // Even a store that is made to lie about it is not believed.
    const records = [...server.records];
    const [[first], [second]] = [records[0] as never as [string], records[1] as never as [string]];
    server.records.set(second, server.records.get(first) as never);
    for (const tenant of ['alice', 'bob', undefined]) await node.ask(1, tenant);
    assert.equal(faultsOf(node)['key'], 1);
  });

  it('6, vllm#54727: collisions of short hashes were served unchecked', async () => {
    // A store that tells names apart by four characters only.
    const server = new MapServer();
    const store = new MapStore('map', server);
    const short = (name: string): string => name.slice(0, 'results/0'.length);
    const colliding = new Proxy(store, {
      get: (target, property) => {
        if (property === 'get') return (name: string) => target.get(short(name));
        if (property === 'put') return (name: string, parts: readonly Uint8Array[]) => target.put(short(name), parts);
        const value: unknown = Reflect.get(target, property, target);
        return typeof value === 'function' ? (value as (...args: unknown[]) => unknown).bind(target) : value;
      },
    });
    await using node = await nodeOver(colliding);
    for (let round = 0; round < 2; round++) for (let x = 0; x < 40; x++) await node.ask(x);
    assert.ok((faultsOf(node)['key'] ?? 0) > 0);
  });

  it('7, dynamo#15079 and #5068: a failed transfer counted as loaded; wrong output under concurrency', async () => {
    const store = new FaultyStore(new MapStore(), createRandom(1));
    await using node = await nodeOver(store);
    await Promise.all(Array.from({ length: 40 }, (_, at) => node.ask(at % 10)));
    store.fault = 'cut';
    const reports = await Promise.all(Array.from({ length: 40 }, (_, at) => node.ask(at % 10)));
    assert.ok(reports.every(({ status }) => status !== 'hit'));
    const { hits } = node.cache.tiers().tiers[0] as { readonly hits: number };
    assert.equal(hits, 0, 'nor is it counted as a hit');
  });

  it('10, LMCache#1139 and #2136: no hits between processes, as hashes had a seed of the process', async () => {
    const server = new MapServer();
    await using one = await nodeOver(new MapStore('map', server), { seed: 1 });
    await using two = await nodeOver(new MapStore('map', server), { seed: 2 });
    await one.ask(1);
    assert.equal((await two.ask(1)).tier, 'remote');
  });

  it('11, LMCache#779, keyv#1496: a store that fails or hangs stops the service', async () => {
    const store = new FaultyStore(new MapStore(), createRandom(1));
    await using node = await nodeOver(store);
    for (const fault of ['hung', 'killed'] as const) {
      store.fault = fault;
      const start = performance.now();
      await Promise.all(Array.from({ length: 100 }, (_, x) => node.ask(x)));
      assert.ok(performance.now() - start < 10_000);
    }
  });

  it('12, vllm#54779 and #52784: a file tier that grows without bound', async () => {
    using folder = new TempFolder();
    const budgetBytes = 8 * 2 ** 20;
    await using store = createDiskStore({ folder: folder.path, budgetBytes });
    const record = new Uint8Array(200_000);
    for (let at = 0; at < 200; at++) await store.put(`grow/${at}`, [record]);
    const bytes = filesIn(folder.path).reduce((sum, path) => sum + statSync(path).size, 0);
    assert.ok(bytes <= budgetBytes, `${bytes} bytes of 40 MB are on the disk`);
  });

  it('13, vllm#49545: a slow remote read is dearer than computing', async () => {
    const store = new FaultyStore(new MapStore(), createRandom(1));
    await using node = await nodeOver(store, {}, 5);
    for (let x = 0; x < 10; x++) await node.ask(x);
    store.fault = 'slow';
    for (let x = 0; x < 10; x++) await node.ask(x);
    const { worth, breaker } = node.cache.tiers().tiers[0] as { worth: { abandoned: number }; breaker: string };
    assert.ok(worth.abandoned > 0, `given up after the 5 ms that computing takes (${breaker})`);
  });

  it('14, Mooncake#1336 and #1871: a restart loses the index of what is stored', async () => {
    using folder = new TempFolder();
    {
      await using node = await nodeOver(diskIn(folder.path));
      for (let x = 0; x < 8; x++) await node.ask(x);
    }
    await using node = await nodeOver(diskIn(folder.path));
    for (let x = 0; x < 8; x++) assert.equal((await node.ask(x)).tier, 'disk');
    assert.equal(node.session.runs, 0);
    assert.equal(node.cache.tiers().tiers[0]?.restored, 8, 'and says how much there was');
  });

  for (const [kind, start] of Object.entries(STORES)) {
    it(`18, bentocache#42 and unstorage#474: binary values do not survive ${kind}`, async () => {
      const running = await start();
      const everyByte = Uint8Array.from({ length: 70_000 }, (_, at) => (at * 7 + (at >> 8)) & 255);
      const values: Tensors = {
        bytes: tensor(everyByte, [everyByte.length]),
        texts: { type: 'string', shape: [4], data: ['', '\u0000', '\uFEFFé', '\uD800'] },
        halves: tensor(Float32Array.of(Number.NaN, -0, Number.POSITIVE_INFINITY, 1e-40), [4]),
      };
      const session = new (class extends CountingSession {
        override run = async (): Promise<RunResult> => ({ outputs: values, computeMs: 1000 });
      })();
      const caches = [running.open(), running.open()].map((store) =>
        createInferenceCache({ tiers: { under: { store } }, singleFlight: 'off' }),
      );
      // What lies in this process's memory only another object of it does not have.
      const readers = kind === 'shared-memory' ? [caches[0], caches[0]] : caches;
      const answers: Tensors[] = [];
      for (const cache of readers) {
        const model = await (cache as InferenceCache).wrap(session as Session, {
          artifact: { digest: 'bytes' },
        });
        answers.push((await model.run(CountingSession.input(1))).outputs);
        await (cache as InferenceCache).flush();
      }
      assert.deepEqual(answers[1], values);
      assert.deepEqual(answers[0], values);
      if (kind !== 'shared-memory') assert.equal(caches[1]?.tiers().tiers[0]?.hits, 1, 'it was read back');
      for (const cache of caches) await cache.close();
      await running.stop();
    });
  }
});
