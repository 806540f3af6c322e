import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { FakeClock } from '../../src/base/clock.ts';
import { isInferkvError } from '../../src/base/errors.ts';
import type { Fetched, Lease, Loaded, Partition } from '../../src/cache/partition.ts';
import { rejects } from '../support/rejects.ts';

/** What is kept in a partition under test. */
export interface Box {
  readonly text: string;
  /** Bytes it takes where a partition measures for itself. */
  readonly sizeBytes: number;
}

/** How a partition under test is made. */
export interface PartitionSetup {
  readonly budgetBytes: number;
  readonly clock: FakeClock;
  readonly ttlMs?: number;
  readonly maxEntryBytes?: number;
}

/** Makes a partition of an implementation; every entry of 10 bytes takes these and the overhead, a larger one at least that. */
export interface PartitionSubject {
  readonly overheadBytes: number;
  make(setup: PartitionSetup): Partition<Box>;
}

/** A load that ends when the test says so. */
export function controlledLoad(): {
  readonly load: (signal: AbortSignal) => Promise<Loaded<Box>>;
  readonly end: PromiseWithResolvers<Loaded<Box>>;
  readonly signals: AbortSignal[];
} {
  const end = Promise.withResolvers<Loaded<Box>>();
  const signals: AbortSignal[] = [];
  return {
    load: (signal) => {
      signals.push(signal);
      return end.promise;
    },
    end,
    signals,
  };
}

export const box = (text: string, sizeBytes = 10): Box => ({ text, sizeBytes });
export const loaded = (text: string, sizeBytes = 10): Loaded<Box> => ({
  value: box(text, sizeBytes),
  sizeBytes,
  costMs: 5,
});

/** Lets everything that is ready happen. */
export const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What every partition owes to whoever uses it (src/cache/partition.ts). */
export function describePartition(name: string, subject: PartitionSubject): void {
  const { overheadBytes } = subject;
  const withRoomFor = (
    entries: number,
    more: Partial<PartitionSetup> = {},
  ): { partition: Partition<Box>; clock: FakeClock } => {
    const clock = new FakeClock();
    return { partition: subject.make({ budgetBytes: entries * (10 + overheadBytes), clock, ...more }), clock };
  };
  const facts = { sizeBytes: 10, costMs: 5 };

  describe(`partition ${name}`, () => {
    it('gives what was set, counts hits, misses and what hits saved', () => {
      const { partition } = withRoomFor(3);
      assert.equal(partition.get('a'), undefined);
      assert.equal(partition.set('a', box('1'), facts), true);
      assert.equal(partition.get('a')?.text, '1');
      using lease = partition.lease('a');
      assert.equal(lease?.value.text, '1');
      assert.equal(lease?.costMs, 5);
      const { hits, misses, insertions, savedMs, activeLeases, entries } = partition.stats();
      const counted = { hits, misses, insertions, savedMs, activeLeases, entries };
      assert.deepEqual(counted, { hits: 2, misses: 1, insertions: 1, savedMs: 10, activeLeases: 1, entries: 1 });
    });

    it('replaces, deletes, and lets go by tag', () => {
      const { partition } = withRoomFor(5);
      partition.set('a', box('1'), { ...facts, tags: ['x', 'y'] });
      partition.set('a', box('2'), { ...facts, tags: ['y'] });
      partition.set('b', box('3'), { ...facts, tags: ['y'] });
      partition.set('c', box('4'), facts);
      assert.equal(partition.get('a')?.text, '2');
      assert.equal(partition.invalidateTag('x'), 0);
      assert.equal(partition.invalidateTag('y'), 2);
      assert.equal(partition.get('a'), undefined);
      assert.equal(partition.delete('c'), true);
      assert.equal(partition.delete('c'), false);
      assert.deepEqual([partition.stats().entries, partition.stats().usedBytes], [0, 0]);
    });

    it('evicts to stay within its budget, never what is leased', () => {
      const { partition } = withRoomFor(2);
      partition.set('a', box('1'), facts);
      using lease = partition.lease('a');
      for (let i = 0; i < 20; i++) {
        assert.equal(partition.set(`b${i}`, box('x'), facts), true);
        assert.ok(partition.stats().usedBytes <= partition.stats().budgetBytes);
      }
      assert.equal(lease?.value.text, '1');
      assert.equal(partition.get('a')?.text, '1');
      assert.equal(partition.stats().evictions, 19);
    });

    it('keeps nothing new while everything is leased, and evicts nothing in vain', () => {
      const { partition } = withRoomFor(2);
      partition.set('a', box('1'), facts);
      partition.set('b', box('2'), facts);
      using held = partition.lease('a');
      const sizeBytes = 10 + 10 + overheadBytes;
      assert.equal(partition.set('c', box('3', sizeBytes), { ...facts, sizeBytes }), false);
      assert.equal(partition.get('b')?.text, '2');
      assert.equal(partition.stats().refusals, 1);
      assert.equal(held?.value.text, '1');
    });

    it('serves what is larger than it may keep, and does not keep it', async () => {
      const { partition } = withRoomFor(4, { maxEntryBytes: 50 });
      partition.set('a', box('1'), facts);
      for (const sizeBytes of [51, 1_000_000]) {
        assert.equal(partition.set('big', box('2', sizeBytes), { ...facts, sizeBytes }), false);
        const { lease, status } = await partition.fetch('big', async () => loaded('3', sizeBytes));
        assert.deepEqual([lease.value.text, status], ['3', 'miss']);
        lease.release();
      }
      assert.equal(partition.get('big'), undefined);
      assert.equal(partition.get('a')?.text, '1');
      assert.deepEqual([partition.stats().refusals, partition.stats().usedBytes], [4, 10 + overheadBytes]);
    });

    it('forgets the old value even where the new one cannot be kept', () => {
      const { partition } = withRoomFor(2);
      partition.set('a', box('old'), facts);
      assert.equal(partition.set('a', box('new', 1_000_000), { ...facts, sizeBytes: 1_000_000 }), false);
      assert.equal(partition.get('a'), undefined);
    });

    it('lets entries expire', async () => {
      const { partition, clock } = withRoomFor(10, { ttlMs: 100 });
      partition.set('a', box('1'), facts);
      partition.set('b', box('2'), { ...facts, ttlMs: 300 });
      partition.set('c', box('3'), { ...facts, ttlMs: Number.POSITIVE_INFINITY });
      clock.advance(99);
      assert.equal(partition.get('a')?.text, '1');
      clock.advance(1);
      assert.equal(partition.get('a'), undefined);
      assert.equal(partition.get('b')?.text, '2');
      clock.advance(10_000);
      assert.equal(partition.lease('b'), undefined);
      assert.equal(partition.get('c')?.text, '3');
      const { status } = await partition.fetch('a', async () => loaded('4'));
      assert.equal(status, 'miss');
      assert.equal(partition.stats().expirations, 2);
    });

    it('does not let the dead pile up', () => {
      const { partition, clock } = withRoomFor(2000, { ttlMs: 100 });
      for (let i = 0; i < 1000; i++) partition.set(`old${i}`, box('x'), facts);
      clock.advance(101);
      for (let i = 0; i < 1000; i++) partition.set(`new${i}`, box('x'), { ...facts, ttlMs: 10_000 });
      assert.ok(partition.stats().entries <= 1001, `${partition.stats().entries} entries`);
    });

    it('keeps a leased value as it is, whatever happens to its entry', async () => {
      const { partition, clock } = withRoomFor(3, { ttlMs: 100 });
      partition.set('a', box('deleted'), facts);
      const first = partition.lease('a');
      partition.delete('a');
      partition.set('a', box('replaced'), facts);
      const second = partition.lease('a');
      partition.set('a', box('expired'), facts);
      assert.deepEqual([first?.value.text, second?.value.text], ['deleted', 'replaced']);
      first?.release();
      second?.release();
      const third = partition.lease('a');
      clock.advance(1000);
      assert.equal(partition.get('a'), undefined);
      assert.equal(third?.value.text, 'expired');
      await partition.close();
      assert.equal(third?.value.text, 'expired');
      third?.release();
      assert.deepEqual([partition.stats().usedBytes, partition.stats().activeLeases], [0, 0]);
    });

    it('counts a lease once, however often it is released, and says so when it is read afterwards', () => {
      const { partition } = withRoomFor(1);
      partition.set('a', box('1'), facts);
      const lease = partition.lease('a') as Lease<Box>;
      const other = partition.lease('a') as Lease<Box>;
      lease.release();
      lease.release();
      lease[Symbol.dispose]();
      assert.equal(partition.stats().activeLeases, 1);
      assert.equal(partition.set('b', box('2'), facts), false);
      assert.throws(
        () => lease.value,
        (error) => isInferkvError(error, 'ERR_INFERKV_LEASE_RELEASED'),
      );
      other.release();
      assert.equal(partition.set('b', box('2'), facts), true);
    });
  });

  describeFetch(name, withRoomFor);
}

/** The part of the contract that is about loading. */
function describeFetch(
  name: string,
  withRoomFor: (entries: number, more?: Partial<PartitionSetup>) => { partition: Partition<Box>; clock: FakeClock },
): void {
  const released = async (fetching: Promise<Fetched<Box>>): Promise<readonly [string, string, string | undefined]> => {
    const { lease, status, tier } = await fetching;
    using held = lease;
    return [held.value.text, status, tier];
  };

  describe(`partition ${name}: fetch`, () => {
    it('loads once for all who ask at one time, and then has it', async () => {
      const { partition } = withRoomFor(3);
      const { load, end, signals } = controlledLoad();
      const all = Array.from({ length: 50 }, () => released(partition.fetch('a', load)));
      end.resolve(loaded('1'));
      const answers = await Promise.all(all);
      assert.equal(signals.length, 1);
      assert.deepEqual(answers[0], ['1', 'miss', undefined]);
      for (const answer of answers.slice(1)) assert.deepEqual(answer, ['1', 'joined', undefined]);
      assert.deepEqual(await released(partition.fetch('a', load)), ['1', 'hit', 'memory']);
      assert.equal(partition.stats().joined, 49);
      assert.equal(partition.stats().activeLeases, 0);
    });

    it('lets nothing come between a load that ends and those who wait for it', async () => {
      const { partition } = withRoomFor(1);
      // All loads end in one turn; each takes the room of the one before, whose caller must have its hold by then.
      const fetches = Array.from({ length: 20 }, (_, at) => partition.fetch(`k${at}`, async () => loaded(`${at}`)));
      const held = await Promise.all(fetches);
      assert.deepEqual(
        held.map(({ lease }) => lease.value.text),
        held.map((_, at) => `${at}`),
      );
      assert.ok(partition.stats().usedBytes <= partition.stats().budgetBytes);
      for (const { lease } of held) lease.release();
      const { usedBytes, budgetBytes, entries } = partition.stats();
      assert.deepEqual([usedBytes, entries], [budgetBytes, 1]);
      await partition.close();
      assert.equal(partition.stats().usedBytes, 0);
    });

    it('loads different keys side by side', async () => {
      const { partition } = withRoomFor(3);
      const slow = controlledLoad();
      const slowFetch = released(partition.fetch('slow', slow.load));
      assert.deepEqual(await released(partition.fetch('quick', async () => loaded('q'))), ['q', 'miss', undefined]);
      slow.end.resolve(loaded('s'));
      assert.deepEqual(await slowFetch, ['s', 'miss', undefined]);
    });

    it('lets one caller give up without harm to the others', async () => {
      const { partition } = withRoomFor(3);
      const { load, end, signals } = controlledLoad();
      const leaver = new AbortController();
      const leaving = partition.fetch('a', load, { signal: leaver.signal });
      const staying = released(partition.fetch('a', load));
      leaver.abort();
      await rejects(leaving, 'ERR_INFERKV_ABORTED');
      assert.equal(signals[0]?.aborted, false);
      end.resolve(loaded('1'));
      assert.equal((await staying)[0], '1');
    });

    it('tells the load to stop when the last caller has left; what it brings all the same is not lost, and leaks nothing', async () => {
      const { partition } = withRoomFor(3);
      const { load, end, signals } = controlledLoad();
      const leavers = [new AbortController(), new AbortController()];
      const fetches = leavers.map(({ signal }) => partition.fetch('a', load, { signal, reserveBytes: 10 }));
      const failures = fetches.map((each) => rejects(each, 'ERR_INFERKV_ABORTED'));
      for (const leaver of leavers) leaver.abort();
      await Promise.all(failures);
      assert.equal(signals[0]?.aborted, true);
      // A newcomer does not wait for what was given up.
      const fresh = controlledLoad();
      const newcomer = released(partition.fetch('a', fresh.load));
      fresh.end.resolve(loaded('fresh'));
      assert.equal((await newcomer)[0], 'fresh');
      end.resolve(loaded('late'));
      await settle();
      await partition.close();
      assert.deepEqual([partition.stats().usedBytes, partition.stats().activeLeases], [0, 0]);
    });

    it('turns away who has given up before asking', async () => {
      const { partition } = withRoomFor(3);
      const load = controlledLoad();
      await rejects(partition.fetch('a', load.load, { signal: AbortSignal.abort() }), 'ERR_INFERKV_ABORTED');
      assert.equal(load.signals.length, 0);
      const other = partition.fetch('a', load.load);
      await rejects(partition.fetch('a', load.load, { signal: AbortSignal.abort() }), 'ERR_INFERKV_ABORTED');
      load.end.resolve(loaded('1'));
      assert.equal((await released(other))[0], '1');
    });

    it('gives a failing load to all who wait, keeps nothing of it, and gives its bytes back', async () => {
      const { partition } = withRoomFor(3);
      const { load, end } = controlledLoad();
      const all = Array.from({ length: 5 }, () => partition.fetch('a', load, { reserveBytes: 10 }));
      const failures = all.map((each) => assert.rejects(each, /broken/));
      end.reject(new Error('broken'));
      await Promise.all(failures);
      assert.equal(partition.stats().usedBytes, 0);
      assert.deepEqual(await released(partition.fetch('a', async () => loaded('2'))), ['2', 'miss', undefined]);
    });

    it('loads anew when asked to, and keeps that', async () => {
      const { partition } = withRoomFor(3);
      await released(partition.fetch('a', async () => loaded('old')));
      assert.deepEqual(await released(partition.fetch('a', async () => loaded('new'), { refresh: true })), [
        'new',
        'miss',
        undefined,
      ]);
      assert.equal(partition.get('a')?.text, 'new');
    });

    it('serves and does not keep what the load says is not to be kept', async () => {
      const { partition } = withRoomFor(3);
      assert.equal((await released(partition.fetch('a', async () => ({ ...loaded('1'), keep: false }))))[0], '1');
      assert.equal(partition.get('a'), undefined);
      assert.equal(partition.stats().usedBytes, 0);
    });

    it('measures what a load costs where the load does not say', async () => {
      const { partition, clock } = withRoomFor(3);
      const { lease } = await partition.fetch('a', async () => {
        clock.advance(123);
        return { value: box('1'), sizeBytes: 10 };
      });
      assert.equal(lease.costMs, 123);
      lease.release();
    });

    it('waits for room before loading, until there is some', async () => {
      const { partition } = withRoomFor(1);
      const first = await partition.fetch('a', async () => loaded('1'), { reserveBytes: 10 });
      const second = controlledLoad();
      const waiting = released(partition.fetch('b', second.load, { reserveBytes: 10 }));
      await settle();
      assert.equal(second.signals.length, 0);
      first.lease.release();
      await settle();
      assert.equal(second.signals.length, 1);
      second.end.resolve(loaded('2'));
      assert.equal((await waiting)[0], '2');
      assert.equal(partition.get('a'), undefined);
    });

    it('stops waiting for room when its caller does', async () => {
      const { partition } = withRoomFor(1);
      const first = await partition.fetch('a', async () => loaded('1'), { reserveBytes: 10 });
      const leaver = new AbortController();
      const waiting = partition.fetch('b', async () => loaded('2'), { reserveBytes: 10, signal: leaver.signal });
      leaver.abort();
      await rejects(waiting, 'ERR_INFERKV_ABORTED');
      first.lease.release();
      assert.equal(partition.get('a')?.text, '1');
    });

    it('says at once that something can never fit', async () => {
      const { partition } = withRoomFor(2);
      const { load, signals } = controlledLoad();
      await rejects(partition.fetch('a', load, { reserveBytes: 1_000_000 }), 'ERR_INFERKV_BUDGET_EXCEEDED');
      assert.equal(signals.length, 0);
      assert.equal(partition.stats().usedBytes, 0);
    });

    it('refuses to load once it is closed', async () => {
      const { partition } = withRoomFor(2);
      partition.set('a', box('1'), { sizeBytes: 10, costMs: 1 });
      await partition.close();
      await rejects(
        partition.fetch('b', async () => loaded('2')),
        'ERR_INFERKV_CLOSED',
      );
      assert.equal(partition.set('b', box('2'), { sizeBytes: 10, costMs: 1 }), false);
      assert.deepEqual([partition.stats().entries, partition.stats().usedBytes], [0, 0]);
    });
  });
}
