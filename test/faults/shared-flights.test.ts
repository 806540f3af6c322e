import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';

import { systemClock } from '../../src/base/clock.ts';
import type { SharedPartition } from '../../src/cache/shared-partition.ts';
import { box, controlledLoad, loaded, settle, type Box } from '../contracts/partition.ts';
import type { Order, Told } from '../fixtures/shared-partition-thread.ts';
import { BOX_OVERHEAD_BYTES } from '../support/box-codec.ts';
import { rejects } from '../support/rejects.ts';
import { sharedBoxes } from '../support/shared-partition.ts';

const ENTRY_BYTES = 10 + BOX_OVERHEAD_BYTES;
const entry = new URL('../fixtures/shared-partition-thread.ts', import.meta.url);

/** A worker thread attached to a partition, and what it tells. */
class Thread {
  readonly worker: Worker;
  readonly ended: Promise<void>;
  readonly #told: Told[] = [];
  #wake = Promise.withResolvers<void>();

  constructor(partition: SharedPartition<Box>) {
    const handle = partition.handle();
    this.worker = new Worker(entry, { workerData: handle, transferList: [handle.port] });
    this.worker.on('message', (told: Told) => {
      this.#told.push(told);
      this.#wake.resolve();
      this.#wake = Promise.withResolvers();
    });
    this.ended = new Promise((resolve) => this.worker.once('exit', () => resolve()));
  }

  send(order: Order): void {
    this.worker.postMessage(order);
  }

  /** The first thing of that kind that it tells, about that fetch, and has not been asked for before. */
  async hears<Is extends Told['is']>(is: Is, id?: number): Promise<Extract<Told, { readonly is: Is }>> {
    for (;;) {
      const at = this.#told.findIndex(
        (told) => told.is === is && (id === undefined || ('id' in told && told.id === id)),
      );
      if (at >= 0) return this.#told.splice(at, 1)[0] as Extract<Told, { readonly is: Is }>;
      await this.#wake.promise;
    }
  }

  async end(): Promise<void> {
    await this.worker.terminate();
  }
}

describe('one load for all threads', () => {
  let partition: SharedPartition<Box>;
  let one: Thread;
  let two: Thread;
  const make = async (entries: number): Promise<void> => {
    partition = sharedBoxes('lru', { budgetBytes: entries * ENTRY_BYTES, clock: systemClock });
    one = new Thread(partition);
    two = new Thread(partition);
    await Promise.all([one.hears('ready'), two.hears('ready')]);
  };
  beforeEach(() => make(64));
  afterEach(async () => {
    await Promise.all([one.end(), two.end()]);
    await partition.close();
    // That a thread has ended reaches its port in a turn of its own.
    for (let turns = 0; turns < 1000 && partition.stats().usedBytes > 0; turns++) await settle();
    const { usedBytes, activeLeases } = partition.stats();
    assert.deepEqual([usedBytes, activeLeases], [0, 0], 'nothing is left in the hands of threads that have ended');
  });

  it('lets the first load, whichever thread it is in, and gives the others what it wrote', async () => {
    one.send({ do: 'fetch', id: 1, key: 'a' });
    await one.hears('loading', 1);
    two.send({ do: 'fetch', id: 2, key: 'a' });
    two.send({ do: 'fetch', id: 3, key: 'a' });
    // When the owner answers this it has heard the others.
    two.send({ do: 'fetch', id: 4, key: 'b' });
    await two.hears('loading', 4);
    const own = controlledLoad();
    const fetching = partition.fetch('a', own.load);
    assert.equal(partition.explain('a').state, 'loading');
    one.send({ do: 'end', id: 1, text: 'first' });
    const got = [await one.hears('got', 1), await two.hears('got', 2), await two.hears('got', 3)];
    const { lease, status } = await fetching;
    assert.deepEqual(
      got.map((each) => [each.text, each.status]),
      [
        ['first', 'miss'],
        ['first', 'joined'],
        ['first', 'joined'],
      ],
    );
    assert.deepEqual([lease.value.text, lease.costMs, status, own.signals.length], ['first', 7, 'joined', 0]);
    lease.release();
    // What lies with it came along, and from now on every thread finds it by itself.
    const found = partition.explain('a');
    assert.ok(found.state === 'present');
    assert.deepEqual([found.tags, found.tenant, found.isLeased], [['of-a-thread'], 'me', true]);
    two.send({ do: 'lease', id: 5, key: 'a' });
    assert.equal((await two.hears('got', 5)).text, 'first');
  });

  it('has another thread wait for a load of the owner', async () => {
    const own = controlledLoad();
    const fetching = partition.fetch('a', own.load);
    two.send({ do: 'fetch', id: 1, key: 'a' });
    // Its asking is under way; the answer to a later one of that thread says that it was heard.
    two.send({ do: 'fetch', id: 2, key: 'b' });
    await two.hears('loading', 2);
    own.end.resolve(loaded('mine'));
    const { lease, status } = await fetching;
    const { text, status: its } = await two.hears('got', 1);
    assert.deepEqual([lease.value.text, status, text, its], ['mine', 'miss', 'mine', 'joined']);
    lease.release();
  });

  it('hands the load to the next who waits when the thread that had it ends', async () => {
    one.send({ do: 'fetch', id: 1, key: 'a' });
    await one.hears('loading', 1);
    two.send({ do: 'fetch', id: 2, key: 'a' });
    two.send({ do: 'fetch', id: 3, key: 'b' });
    await two.hears('loading', 3);
    const own = controlledLoad();
    const fetching = partition.fetch('a', own.load);
    one.send({ do: 'exit' });
    await two.hears('loading', 2);
    two.send({ do: 'exit' });
    await Promise.all([one.ended, two.ended]);
    own.end.resolve(loaded('at last'));
    const { lease, status } = await fetching;
    assert.deepEqual([lease.value.text, status, own.signals.length], ['at last', 'miss', 1]);
    lease.release();
  });

  it('gives a failure to all who wait, and loads anew for the next', async () => {
    one.send({ do: 'fetch', id: 1, key: 'a' });
    await one.hears('loading', 1);
    const fetching = assert.rejects(
      partition.fetch('a', async () => loaded('never')),
      /broken/,
    );
    one.send({ do: 'fail', id: 1 });
    assert.equal((await one.hears('failed', 1)).message, 'broken');
    await fetching;
    two.send({ do: 'fetch', id: 2, key: 'a' });
    await two.hears('loading', 2);
    two.send({ do: 'end', id: 2, text: 'good' });
    assert.equal((await two.hears('got', 2)).status, 'miss');
  });

  it('lets those who give up leave alone: a waiter, and even the one who loads', async () => {
    one.send({ do: 'fetch', id: 1, key: 'a' });
    await one.hears('loading', 1);
    two.send({ do: 'fetch', id: 2, key: 'a' });
    two.send({ do: 'fetch', id: 3, key: 'b' });
    await two.hears('loading', 3);
    const staying = partition.fetch('a', async () => loaded('never'));
    two.send({ do: 'abort', id: 2 });
    assert.equal((await two.hears('failed', 2)).code, 'ERR_INFERKV_ABORTED');
    one.send({ do: 'abort', id: 1 });
    assert.equal((await one.hears('failed', 1)).code, 'ERR_INFERKV_ABORTED');
    one.send({ do: 'end', id: 1, text: 'for others' });
    const { lease } = await staying;
    assert.equal(lease.value.text, 'for others');
    lease.release();
  });

  it('tells the load to stop when nobody in any thread waits any more', async () => {
    one.send({ do: 'fetch', id: 1, key: 'a' });
    await one.hears('loading', 1);
    const leaver = new AbortController();
    const leaving = partition.fetch('a', async () => loaded('never'), { signal: leaver.signal });
    one.send({ do: 'abort', id: 1 });
    await one.hears('failed', 1);
    leaver.abort();
    await rejects(leaving, 'ERR_INFERKV_ABORTED');
    await one.hears('stopped', 1);
    assert.equal(partition.explain('a').state, 'unknown');
  });

  it('gives what is not to be kept, or expires at once, to all who wait', async () => {
    for (const [id, how] of [
      [1, { keep: false }],
      [2, { sizeBytes: 10_000_000 }],
      [3, { ttlMs: 0 }],
    ] as const) {
      const key = `k${id}`;
      one.send({ do: 'fetch', id, key });
      await one.hears('loading', id);
      two.send({ do: 'fetch', id, key });
      two.send({ do: 'fetch', id: 100 + id, key: `other${id}` });
      await two.hears('loading', 100 + id);
      const fetching = partition.fetch(key, async () => loaded('never'));
      one.send({ do: 'end', id, text: `v${id}`, ...how });
      const { lease } = await fetching;
      assert.deepEqual(
        [lease.value.text, (await one.hears('got', id)).text, (await two.hears('got', id)).text],
        [`v${id}`, `v${id}`, `v${id}`],
      );
      lease.release();
      assert.notEqual(partition.explain(key).state, 'present');
    }
  });

  it('gives it to those who wait even if its entry has left before they have taken it', async () => {
    one.send({ do: 'fetch', id: 1, key: 'a' });
    await one.hears('loading', 1);
    two.send({ do: 'fetch', id: 2, key: 'a' });
    two.send({ do: 'fetch', id: 3, key: 'b' });
    await two.hears('loading', 3);
    const fetching = partition.fetch('a', async () => loaded('never'));
    one.send({ do: 'end', id: 1, text: 'brief' });
    const { lease } = await fetching;
    // In the turn in which the shares are given out, before any other thread can have taken its own.
    assert.equal(partition.delete('a'), true);
    for (let i = 0; i < 200; i++) partition.set(`x${i}`, box('other'), { sizeBytes: 10, costMs: 1 });
    assert.deepEqual([(await one.hears('got', 1)).text, (await two.hears('got', 2)).text], ['brief', 'brief']);
    lease.release();
    for (let i = 0; i < 200; i++) partition.set(`y${i}`, box('other'), { sizeBytes: 10, costMs: 1 });
    two.send({ do: 'read', id: 2 });
    assert.equal((await two.hears('got', 2)).text, 'brief');
  });

  it('serves other threads while everything is leased', async () => {
    await one.end();
    await two.end();
    await partition.close();
    await make(2);
    const held = [partition, partition].map((_, at) => {
      partition.set(`held${at}`, box('held'), { sizeBytes: 10, costMs: 1 });
      return partition.lease(`held${at}`);
    });
    one.send({ do: 'fetch', id: 1, key: 'a' });
    await one.hears('loading', 1);
    one.send({ do: 'end', id: 1, text: 'no room' });
    assert.deepEqual((await one.hears('got', 1)).text, 'no room');
    assert.deepEqual(
      held.map((each) => each?.value.text),
      ['held', 'held'],
    );
    for (const each of held) each?.release();
  });

  it('ends the waits of a thread that closes its part, and of all when the partition is closed', async () => {
    one.send({ do: 'fetch', id: 1, key: 'a' });
    await one.hears('loading', 1);
    const fetching = partition.fetch('a', async () => loaded('mine'));
    one.send({ do: 'close' });
    assert.equal((await one.hears('failed', 1)).code, 'ERR_INFERKV_CLOSED');
    const { lease, status } = await fetching;
    assert.deepEqual([lease.value.text, status], ['mine', 'miss']);
    lease.release();
    await partition.close();
    two.send({ do: 'fetch', id: 2, key: 'c' });
    assert.equal((await two.hears('failed', 2)).code, 'ERR_INFERKV_CLOSED');
    await rejects(
      partition.fetch('a', async () => loaded('x')),
      'ERR_INFERKV_CLOSED',
    );
  });
});
