import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { threadId } from 'node:worker_threads';

import { FakeClock } from '../../base/clock.ts';
import { isInferkvError, type ErrorCode } from '../../base/errors.ts';
import { digestOf, policyOf, storeOf } from '../../../test/support/shared-memory.ts';
import type { SharedMemoryHandle } from './handle.ts';
import { SharedMemoryReader } from './reader.ts';
import { SharedMemoryStore } from './store.ts';

const facts = { costMs: 5 };
const MIB = 2 ** 20;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const coded = (code: ErrorCode) => (error: unknown) => isInferkvError(error, code);
const [a, b, c] = [digestOf(1), digestOf(2), digestOf(3)];

/** What lies under a key, copied out. */
function read(from: SharedMemoryStore | SharedMemoryReader, digest: Uint8Array): number[] | undefined {
  using lease = from.lease(digest);
  return lease === undefined ? undefined : [...lease.bytes];
}

/** Every byte of the arena is somebody's. */
function assertAccounts(store: SharedMemoryStore): void {
  const { arenaBytes, liveBytes, retiredBytes, grantedBytes, freeBytes } = store.stats();
  assert.equal(liveBytes + retiredBytes + grantedBytes + freeBytes, arenaBytes);
}

describe('the shared memory store, for other threads', () => {
  it('is found by its handle, and by nothing else', () => {
    using store = storeOf(MIB);
    using other = storeOf(MIB, { seed: () => 2 });
    const handle = store.handle();
    const broken: unknown[] = [
      undefined,
      null,
      7,
      {},
      // What is left of a handle that went to another process as JSON.
      JSON.parse(JSON.stringify(handle)),
      { ...handle, control: new SharedArrayBuffer(8) },
      { ...handle, control: new SharedArrayBuffer(193) },
      { ...handle, control: new SharedArrayBuffer(handle.control.byteLength) },
      { ...handle, control: handle.control.slice(0, 4096) },
      { ...handle, segments: [] },
      { ...handle, segments: other.handle().segments },
      { ...handle, segments: [new ArrayBuffer(10)] },
    ];
    const version = new Int32Array(handle.control.slice(0));
    version[1] = 99;
    broken.push({ ...handle, control: version.buffer });
    for (const each of broken) {
      assert.throws(
        () => SharedMemoryReader.attach(each as SharedMemoryHandle),
        coded('ERR_INFERKV_HANDLE_INVALID'),
        JSON.stringify(each),
      );
    }
    assert.equal(store.stats().threads, 0);
  });

  it('is found by as many as it was made for, and by others when they have left', () => {
    using store = storeOf(MIB, { maxThreads: 3 });
    store.put(a, bytes(1), facts);
    const first = SharedMemoryReader.attach(store.handle());
    const second = SharedMemoryReader.attach(store.handle());
    assert.throws(() => SharedMemoryReader.attach(store.handle()), coded('ERR_INFERKV_OVERLOADED'));
    const lease = first.lease(a);
    first.close();
    assert.throws(() => first.lease(a), coded('ERR_INFERKV_CLOSED'));
    assert.equal(store.stats().threads, 2);
    assert.deepEqual([...(lease?.bytes ?? [])], [1]);
    lease?.release();
    assert.equal(store.stats().threads, 1);
    using third = SharedMemoryReader.attach(store.handle());
    assert.deepEqual(read(third, a), [1]);
    assert.deepEqual(read(second, a), [1]);
  });

  it('tells the policy what other threads use', () => {
    using store = storeOf(64 * 1024);
    using reader = SharedMemoryReader.attach(store.handle());
    for (const key of [a, b, c]) store.put(key, new Uint8Array(20_000), facts);
    assert.notEqual(read(reader, a), undefined);
    store.put(digestOf(4), new Uint8Array(20_000), facts);
    assert.deepEqual([read(store, a) !== undefined, read(store, b)], [true, undefined]);
    assert.equal(read(reader, b), undefined);
    const { hits, misses, savedMs } = store.stats();
    assert.deepEqual([hits, misses, savedMs], [2, 2, 10]);
  });

  it('forgets the oldest hits if there are too many, and those on entries that left', () => {
    const touched: number[] = [];
    using store = storeOf(MIB, {
      maxEntries: 2,
      policy: (slots) => {
        const policy = policyOf('lru')(slots);
        return Object.assign(policy, { touch: (slot: number) => void touched.push(slot) });
      },
    });
    using reader = SharedMemoryReader.attach(store.handle());
    store.put(a, bytes(1), facts);
    for (let i = 0; i < 1000; i++) read(reader, a);
    assert.equal(store.stats().unheardHits, 744);
    assert.equal(touched.length, 256);
    read(reader, a);
    store.delete(a);
    // The second of these takes the record of the one that left.
    store.put(b, bytes(2), facts);
    store.put(c, bytes(3), facts);
    assert.equal(store.stats().hits, 1001);
    assert.equal(touched.length, 256);
  });

  it('takes what they write, out of what they were granted', () => {
    using store = storeOf(MIB, { grantBytes: 8192 });
    using reader = SharedMemoryReader.attach(store.handle());
    assert.equal(reader.reserve(100), undefined);
    store.hear();
    assert.equal(store.stats().grantedBytes, 8192);
    const slab = reader.reserve(100, 3);
    assert.ok(slab !== undefined);
    slab.bytes.fill(7);
    reader.commit(slab, a, { costMs: 1, metadata: bytes(1, 2, 3) }, 90);
    assert.deepEqual(read(store, a), Array(90).fill(7));
    assert.throws(() => reader.commit(slab, b, facts), coded('ERR_INFERKV_INPUT_INVALID'));
    using lease = reader.lease(a);
    assert.deepEqual([...(lease?.metadata ?? [])], [1, 2, 3]);
    const { liveBytes, grantedBytes } = store.stats();
    assert.deepEqual([liveBytes, grantedBytes], [128, 8192 - 128]);
    assertAccounts(store);
  });

  it('has memory for them before they ask, where they say that they write', () => {
    using store = storeOf(MIB, { grantBytes: 4096 });
    using reader = SharedMemoryReader.attach(store.handle(), { writes: true });
    store.hear();
    for (let key = 0; key < 40; key++) {
      const slab = reader.reserve(1000);
      assert.ok(slab !== undefined, `none for ${key}`);
      reader.commit(slab, digestOf(key), facts);
      store.hear();
    }
    assert.equal(store.stats().entries, 40);
    assert.ok(store.stats().grantedBytes <= 2 * 4096);
    assertAccounts(store);
  });

  it('takes back what they do not need, in any order', () => {
    using store = storeOf(MIB, { grantBytes: 4096 });
    using reader = SharedMemoryReader.attach(store.handle(), { writes: true });
    store.hear();
    const slabs = [500, 600, 700].map((length) => reader.reserve(length));
    const [first, second, third] = slabs;
    assert.ok(first !== undefined && second !== undefined && third !== undefined);
    reader.commit(third, c, facts, 1);
    second.abandon();
    second.abandon();
    store.hear();
    assertAccounts(store);
    reader.commit(first, a, facts);
    assert.equal(read(store, a)?.length, 500);
    // Nothing of 3,000 bytes is left of it, so its rest goes back and a new one comes.
    assert.equal(reader.reserve(3000), undefined);
    store.hear();
    using slab = reader.reserve(3000);
    assert.equal(slab?.bytes.length, 3000);
    assertAccounts(store);
  });

  it('counts what was reserved before an invalidation as outdated', () => {
    using store = storeOf(MIB);
    using reader = SharedMemoryReader.attach(store.handle(), { writes: true });
    store.hear();
    const slab = reader.reserve(10);
    assert.ok(slab !== undefined);
    store.invalidate();
    reader.commit(slab, a, facts);
    assert.equal(read(store, a), undefined);
    assert.equal(store.stats().insertions, 1);
  });

  it('has a bound for their messages, and a place for the commit of every slab', () => {
    using store = storeOf(MIB, { grantBytes: 16 * 1024 });
    using reader = SharedMemoryReader.attach(store.handle(), { writes: true });
    store.hear();
    const slabs = [];
    for (;;) {
      const slab = reader.reserve(10);
      if (slab === undefined) break;
      slabs.push(slab);
    }
    assert.equal(slabs.length, 63);
    for (const [key, slab] of slabs.entries()) reader.commit(slab, digestOf(key), facts);
    assert.equal(reader.reserve(10), undefined);
    assert.equal(store.stats().entries, 63);
    assert.notEqual(reader.reserve(10), undefined);
  });

  it('takes no lengths that cannot be, and leaves what lies beside a slab as it was', () => {
    using store = storeOf(MIB, { grantBytes: 4096 });
    store.put(a, new Uint8Array(6400).fill(7), facts);
    using writer = SharedMemoryReader.attach(store.handle(), { writes: true });
    store.hear();
    const metadata = new Uint8Array(40).fill(9);
    using theirs = writer.reserve(64, metadata.length);
    using own = store.reserve(64, metadata.length);
    assert.ok(theirs !== undefined && own !== undefined);
    for (const lengthBytes of [-3200, -1, 0.5, Number.NaN, 65]) {
      const commit = { costMs: 1, metadata };
      assert.throws(() => writer.commit(theirs, b, commit, lengthBytes), coded('ERR_INFERKV_INPUT_INVALID'));
      assert.throws(() => own.commit(b, commit, lengthBytes), coded('ERR_INFERKV_INPUT_INVALID'));
    }
    for (const [length, more] of [
      [0.5, 0.5],
      [64, -1],
      [64, 65_536],
    ] as const) {
      assert.throws(() => writer.reserve(length, more), coded('ERR_INFERKV_INPUT_INVALID'), `${length}, ${more}`);
    }
    using long = writer.reserve(70_000 - 64) ?? (store.hear(), writer.reserve(70_000 - 64));
    assert.ok(long !== undefined);
    const tooMuch = { costMs: 1, metadata: new Uint8Array(65_536) };
    assert.throws(() => writer.commit(long, b, tooMuch, 64), coded('ERR_INFERKV_INPUT_INVALID'));
    assert.deepEqual(read(store, a), Array(6400).fill(7));
    assert.deepEqual([read(store, b), store.stats().unreadableMessages], [undefined, 0]);
  });

  it('wakes a writer whose messages have been read, however many it sent at a time', async () => {
    using store = storeOf(MIB);
    using writer = SharedMemoryReader.attach(store.handle(), { writes: true });
    store.hear();
    const slabs = Array.from({ length: 64 }, () => writer.reserve(8)).filter((slab) => slab !== undefined);
    assert.equal(slabs.length, 63);
    let isThere = false;
    const next = writer.reserveWhenGranted(8).finally(() => (isThere = true));
    for (const [key, slab] of slabs.entries()) writer.commit(slab, digestOf(key), facts);
    store.hear();
    await turn();
    assert.equal(isThere, true, 'waits for ever');
    (await next).abandon();
    assert.equal(store.stats().entries, 63);
  });

  it('grants no more than its share', async () => {
    using store = storeOf(MIB);
    using reader = SharedMemoryReader.attach(store.handle());
    assert.throws(() => reader.reserve(2 * MIB), coded('ERR_INFERKV_BUDGET_EXCEEDED'));
    assert.throws(() => reader.reserve(-1), coded('ERR_INFERKV_BUDGET_EXCEEDED'));
    store.listen();
    using slab = await reader.reserveWhenGranted(400_000);
    assert.equal(slab.bytes.length, 400_000);
    await assert.rejects(reader.reserveWhenGranted(200_000), coded('ERR_INFERKV_NO_ROOM'));
    const signal = AbortSignal.abort();
    await assert.rejects(reader.reserveWhenGranted(200_000, { signal }), coded('ERR_INFERKV_ABORTED'));
    assert.ok(store.stats().refusals > 0);
    assertAccounts(store);
  });

  it('gives up waiting for memory when told to', async () => {
    using store = storeOf(MIB);
    using reader = SharedMemoryReader.attach(store.handle());
    const caller = new AbortController();
    // The owner neither listens nor does anything.
    const waiting = reader.reserveWhenGranted(1000, { signal: caller.signal });
    caller.abort();
    await assert.rejects(waiting, coded('ERR_INFERKV_ABORTED'));
    const late = reader.reserveWhenGranted(1000);
    store.close();
    await assert.rejects(late, coded('ERR_INFERKV_CLOSED'));
  });

  it('takes everything back from a thread that has ended', () => {
    using store = storeOf(MIB, { grantBytes: 4096 });
    store.put(a, bytes(1), facts);
    const reader = SharedMemoryReader.attach(store.handle(), { writes: true });
    store.hear();
    const [kept, lost] = [reader.reserve(100), reader.reserve(100)];
    assert.ok(kept !== undefined && lost !== undefined);
    const lease = reader.lease(a);
    reader.commit(kept, b, facts);
    store.delete(a);
    assert.deepEqual([store.stats().retiredBytes, store.stats().activeLeases], [64, 1]);
    assert.notEqual(lease, undefined);
    store.detach(threadId);
    const { retiredBytes, grantedBytes, activeLeases, threads, entries } = store.stats();
    assert.deepEqual([retiredBytes, grantedBytes, activeLeases, threads, entries], [0, 0, 0, 0, 1]);
    assert.equal(read(store, b)?.length, 100);
    assertAccounts(store);
  });

  it('expires by the clock of its owner', () => {
    const clock = new FakeClock();
    using store = storeOf(MIB, { clock });
    using reader = SharedMemoryReader.attach(store.handle(), { clock, writes: true });
    store.hear();
    const slab = reader.reserve(1);
    assert.ok(slab !== undefined);
    reader.commit(slab, a, { costMs: 1, ttlMs: 50 });
    store.put(b, bytes(1), { costMs: 1, ttlMs: 60 });
    clock.advance(50);
    assert.deepEqual([read(reader, a), read(reader, b)], [undefined, [1]]);
    clock.advance(10);
    assert.equal(read(reader, b), undefined);
  });

  it("has the clock of its owner by itself, if that is the machine's", () => {
    using store = SharedMemoryStore.create({ budgetBytes: 8 * MIB, policy: policyOf('lru') });
    store.put(a, bytes(1), { costMs: 1, ttlMs: 3_600_000 });
    store.put(b, bytes(1), { costMs: 1, ttlMs: -1 });
    using reader = SharedMemoryReader.attach(store.handle());
    assert.deepEqual([read(reader, a), read(reader, b)], [[1], undefined]);
  });

  it('tells of a lease that was forgotten, and keeps it pinned', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    using store = storeOf(MIB);
    store.put(a, bytes(1), facts);
    const told: Uint8Array[] = [];
    const reader = SharedMemoryReader.attach(store.handle(), { onForgotten: (digest) => void told.push(digest) });
    (() => {
      reader.lease(a);
      reader.lease(a)?.release();
    })();
    for (let turns = 0; told.length === 0 && turns < 1000; turns++) {
      collect();
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.deepEqual(told, [Uint8Array.from(a)]);
    assert.equal(store.stats().activeLeases, 1);
  });
});
