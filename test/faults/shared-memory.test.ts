import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';

import { createRandom, type Random } from '../../src/base/random.ts';
import type { SharedMemoryStore } from '../../src/stores/shared-memory/store.ts';
import type { ThreadOrders, ThreadReport } from '../fixtures/shared-memory-thread.ts';
import { countTorn, digestOf, fillPattern, seedBytes, seedOf, storeOf } from '../support/shared-memory.ts';

const KEYS = 40;
const MAX_BYTES = 48 * 1024;
const entry = new URL('../fixtures/shared-memory-thread.ts', import.meta.url);
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A store so small that its memory is used again all the time. */
function smallStore(): SharedMemoryStore {
  const store = storeOf(2 ** 20, { maxEntries: 64, maxThreads: 6, grantBytes: 64 * 1024 });
  store.listen();
  return store;
}

interface Thread {
  readonly worker: Worker;
  /** What it reported, or `undefined` if it died before. */
  readonly ended: Promise<ThreadReport | undefined>;
}

function start(store: SharedMemoryStore, orders: Omit<ThreadOrders, 'handle' | 'keys' | 'maxBytes'>): Thread {
  const workerData: ThreadOrders = { handle: store.handle(), keys: KEYS, maxBytes: MAX_BYTES, ...orders };
  const worker = new Worker(entry, { workerData });
  store.watch(worker);
  let report: ThreadReport | undefined;
  worker.on('message', (message: ThreadReport) => (report = message));
  const ended = new Promise<ThreadReport | undefined>((resolve, reject) => {
    worker.on('error', reject);
    worker.on('exit', () => resolve(report));
  });
  return { worker, ended };
}

/** One thing that an owner does. */
function act(store: SharedMemoryStore, random: Random): void {
  const key = random.below(KEYS);
  const kind = random.below(12);
  if (kind === 0) store.delete(digestOf(key));
  else if (kind === 1) store.sweep(16);
  else if (kind === 2) {
    using lease = store.lease(digestOf(key));
    if (lease !== undefined) assert.equal(countTorn(lease.bytes, seedOf(lease.metadata)), 0);
  } else if (kind === 3 && random.below(20) === 0) store.invalidate();
  else {
    const seed = (random.below(2 ** 22) << 8) | key;
    const write = (into: Uint8Array): void => fillPattern(into, seed);
    store.put(digestOf(key), { lengthBytes: random.below(MAX_BYTES), write }, { costMs: 1, metadata: seedBytes(seed) });
  }
}

/** Lets the owner work until all threads have ended. */
async function workUntil(
  store: SharedMemoryStore,
  random: Random,
  threads: readonly Thread[],
): Promise<(ThreadReport | undefined)[]> {
  let ended = false;
  const reports = Promise.all(threads.map((thread) => thread.ended)).finally(() => (ended = true));
  while (!ended) {
    for (let i = 0; i < 20; i++) act(store, random);
    await turn();
  }
  return reports;
}

/** Nothing is held by anybody, every byte is accounted for, every entry is whole, and the store works on. */
function assertUnharmed(store: SharedMemoryStore): void {
  const { arenaBytes, liveBytes, retiredBytes, grantedBytes, freeBytes, activeLeases, threads, unreadableMessages } =
    store.stats();
  assert.deepEqual([retiredBytes, grantedBytes, activeLeases, threads, unreadableMessages], [0, 0, 0, 0, 0]);
  assert.equal(liveBytes + freeBytes, arenaBytes);
  for (let key = 0; key < KEYS; key++) {
    using lease = store.lease(digestOf(key));
    if (lease === undefined) continue;
    assert.equal(seedOf(lease.metadata) & 0xff, key);
    assert.equal(countTorn(lease.bytes, seedOf(lease.metadata)), 0);
  }
  assert.equal(store.put(digestOf(0), new Uint8Array(500_000), { costMs: 1 }), true);
  store.close();
}

describe('shared memory with real threads', { timeout: 120_000 }, () => {
  for (let seed = 1; seed <= 3; seed++) {
    it(`no torn read among readers, writers and the owner, seed ${seed}`, async () => {
      const store = smallStore();
      const reports = await workUntil(store, createRandom(seed), [
        start(store, { role: 'read', seed: seed * 10, operations: 15_000 }),
        start(store, { role: 'read', seed: seed * 10 + 1, operations: 15_000 }),
        start(store, { role: 'write', seed: seed * 10 + 2, operations: 800 }),
      ]);
      for (const report of reports) assert.equal(report?.torn, 0);
      const found = reports.reduce((sum, report) => sum + (report?.found ?? 0), 0);
      assert.ok(found > 5000, `only ${found} were found`);
      assert.ok((reports[2]?.written ?? 0) > 600);
      assert.ok(store.stats().evictions > 100);
      assertUnharmed(store);
    });
  }
});

describe('a thread that dies in the midst of anything', { timeout: 120_000 }, () => {
  const deaths = [
    ...['probing', 'chosen', 'pinned', 'checked'].map((step) => ({ role: 'read' as const, step })),
    ...['reserved', 'written', 'published'].map((step) => ({ role: 'write' as const, step })),
  ];
  for (const { role, step } of deaths) {
    it(`harms nobody: ${role}, ${step}`, async () => {
      const random = createRandom(step.length);
      const store = smallStore();
      for (let i = 0; i < 60; i++) act(store, random);
      const dying = (seed: number, times: number): Thread =>
        start(store, { role, seed, operations: 1_000_000, dieAt: { step, times } });
      const [first, second, survivor] = await workUntil(store, random, [
        dying(1, 1),
        dying(2, 2 + random.below(60)),
        start(store, { role: 'read', seed: 3, operations: 2000 }),
      ]);
      assert.deepEqual([first, second, survivor?.torn], [undefined, undefined, 0]);
      assertUnharmed(store);
    });
  }

  it('harms nobody when it is ended from outside, at any time', async () => {
    const random = createRandom(99);
    const store = smallStore();
    for (let round = 0; round < 4; round++) {
      const victims = (['read', 'write'] as const).map((role) =>
        start(store, { role, seed: round, operations: 10_000_000 }),
      );
      // Until both have begun, then some more.
      while (store.stats().threads < 2) {
        act(store, random);
        await turn();
      }
      for (let i = random.below(300); i > 0; i--) {
        act(store, random);
        if (random.below(10) === 0) await turn();
      }
      await Promise.all(victims.map(({ worker }) => worker.terminate()));
      await Promise.all(victims.map(({ ended }) => ended));
    }
    assertUnharmed(store);
  });
});
