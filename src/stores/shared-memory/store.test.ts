import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { threadId } from 'node:worker_threads';

import { FakeClock } from '../../base/clock.ts';
import { isInferkvError, type ErrorCode } from '../../base/errors.ts';
import { digestOf, policyOf, storeOf } from '../../../test/support/shared-memory.ts';
import type { SharedMemoryHandle } from './handle.ts';
import { SharedMemoryReader } from './reader.ts';
import { SharedMemoryStore } from './store.ts';

const facts = { costMs: 5 };
const MIB = 2 ** 20;
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

describe('the shared memory store, for its owner', () => {
  it('gives what was put, replaces and deletes it', () => {
    using store = storeOf(MIB);
    assert.equal(read(store, a), undefined);
    assert.equal(store.put(a, bytes(1, 2, 3), { costMs: 5, metadata: bytes(9) }), true);
    using lease = store.lease(a);
    assert.deepEqual([...(lease?.bytes ?? [])], [1, 2, 3]);
    assert.deepEqual([...(lease?.metadata ?? [])], [9]);
    assert.deepEqual([lease?.costMs, lease?.lengthBytes, lease?.epoch], [5, 3, 0]);
    store.put(a, bytes(4), facts);
    assert.deepEqual(read(store, a), [4]);
    assert.deepEqual([...(lease?.bytes ?? [])], [1, 2, 3]);
    assert.equal(store.delete(a), true);
    assert.equal(store.delete(a), false);
    assert.equal(read(store, a), undefined);
    const { hits, misses, savedMs, insertions, entries } = store.stats();
    assert.deepEqual([hits, misses, savedMs, insertions, entries], [2, 2, 10, 2, 0]);
    assertAccounts(store);
  });

  it('keeps a value of no bytes, and one that is written in place', () => {
    using store = storeOf(MIB);
    assert.equal(store.put(a, bytes(), facts), true);
    assert.deepEqual(read(store, a), []);
    store.put(b, { lengthBytes: 2, write: (into) => into.set([7, 8]) }, facts);
    assert.deepEqual(read(store, b), [7, 8]);
  });

  it('keeps nothing of a writer that throws, and lets one use the store', () => {
    using store = storeOf(MIB);
    store.put(a, bytes(1), facts);
    const failing = (): void => {
      throw new Error('no');
    };
    assert.throws(() => store.put(a, { lengthBytes: 100, write: failing }, facts), /no/);
    assert.deepEqual(read(store, a), [1]);
    const nested = (into: Uint8Array): void => {
      store.put(a, bytes(2), facts);
      store.put(b, bytes(3), facts);
      store.delete(a);
      into.set([4]);
    };
    assert.equal(store.put(a, { lengthBytes: 1, write: nested }, facts), true);
    assert.deepEqual([read(store, a), read(store, b)], [[4], [3]]);
    assertAccounts(store);
  });

  it('evicts for room, and never what is leased', () => {
    using store = storeOf(64 * 1024);
    store.put(a, new Uint8Array(20_000), facts);
    using lease = store.lease(a);
    for (let key = 10; key < 50; key++) {
      assert.equal(store.put(digestOf(key), new Uint8Array(20_000), facts), true);
      assertAccounts(store);
    }
    assert.equal(lease?.bytes.length, 20_000);
    assert.notEqual(read(store, a), undefined);
    assert.equal(store.stats().evictions, 38);
  });

  it('refuses what cannot fit, evicts nothing in vain, and forgets what it would have replaced', () => {
    using store = storeOf(64 * 1024);
    store.put(a, new Uint8Array(30_000), facts);
    store.put(b, new Uint8Array(30_000), facts);
    using lease = store.lease(a);
    assert.equal(store.put(c, new Uint8Array(60_000), facts), false);
    assert.notEqual(read(store, b), undefined);
    assert.equal(store.put(b, new Uint8Array(70_000), facts), false);
    assert.equal(store.put(b, { lengthBytes: 2 ** 45, write: () => undefined }, facts), false);
    assert.equal(read(store, b), undefined);
    assert.deepEqual([store.stats().refusals, store.stats().evictions], [3, 0]);
    assert.equal(lease?.bytes.length, 30_000);
  });

  it('evicts for a record when it has no more of them', () => {
    using store = storeOf(MIB, { maxEntries: 4 });
    for (let key = 0; key < 10; key++) assert.equal(store.put(digestOf(key), bytes(key), facts), true);
    assert.deepEqual(read(store, digestOf(9)), [9]);
    const { entries, evictions } = store.stats();
    assert.deepEqual([entries, evictions], [4, 6]);
    const leases = [6, 7, 8, 9].map((key) => store.lease(digestOf(key)));
    assert.equal(store.put(a, bytes(1), facts), false);
    for (const lease of leases) lease?.release();
    assert.equal(store.put(a, bytes(1), facts), true);
    assertAccounts(store);
  });

  it('makes one long run of memory out of pieces that lie apart', () => {
    using store = storeOf(4 * MIB, { maxEntries: 4096 });
    for (let key = 0; store.stats().evictions === 0; key++) store.put(digestOf(key), new Uint8Array(4096), facts);
    assert.equal(store.put(a, new Uint8Array(2 * MIB), facts), true);
    assertAccounts(store);
    // By the policy alone nearly everything would have to go before two megabytes lie together.
    assert.ok(store.stats().liveBytes > 3 * MIB - 200_000, `${store.stats().liveBytes}`);
  });

  it('makes room around what is leased', () => {
    using store = storeOf(MIB, { maxEntries: 1024 });
    const leases = [];
    for (let key = 0; store.stats().evictions === 0; key++) {
      store.put(digestOf(key), new Uint8Array(4096), facts);
      if (key % 60 === 30) leases.push(store.lease(digestOf(key)));
    }
    assert.equal(store.put(a, new Uint8Array(150_000), facts), true);
    assert.equal(store.put(b, new Uint8Array(800_000), facts), false);
    for (const lease of leases) lease?.release();
    assertAccounts(store);
  });

  it('lets entries expire, and frees them by and by', () => {
    const clock = new FakeClock();
    using store = storeOf(MIB, { clock });
    store.put(a, bytes(1), { costMs: 1, ttlMs: 100 });
    using lease = store.lease(a);
    clock.advance(99);
    assert.deepEqual(read(store, a), [1]);
    clock.advance(1);
    assert.equal(read(store, a), undefined);
    assert.deepEqual([...(lease?.bytes ?? [])], [1]);
    store.sweep(10_000);
    assert.deepEqual([store.stats().entries, store.stats().expirations], [0, 1]);
    assert.deepEqual([...(lease?.bytes ?? [])], [1]);
    assert.equal(store.stats().retiredBytes, 64);
  });

  it('hides everything at once, what is being written too', () => {
    using store = storeOf(MIB);
    store.put(a, bytes(1), facts);
    store.put(b, { lengthBytes: 1, write: () => store.invalidate() }, facts);
    assert.deepEqual([read(store, a), read(store, b)], [undefined, undefined]);
    store.put(b, bytes(2), facts);
    assert.deepEqual(read(store, b), [2]);
    store.sweep(10_000);
    assert.equal(store.stats().entries, 1);
  });

  it('refuses one lease too many, and leases one entry many times', () => {
    using store = storeOf(MIB);
    store.put(a, bytes(1), facts);
    const leases = Array.from({ length: 256 }, () => store.lease(a));
    assert.throws(() => store.lease(a), coded('ERR_INFERKV_OVERLOADED'));
    assert.equal(store.stats().activeLeases, 256);
    store.delete(a);
    for (const lease of leases) {
      assert.equal(lease?.bytes[0], 1);
      assert.equal(store.stats().retiredBytes, 64);
      lease?.release();
      lease?.release();
    }
    assert.deepEqual([store.stats().activeLeases, store.stats().retiredBytes], [0, 0]);
    assert.throws(() => leases[0]?.bytes, coded('ERR_INFERKV_LEASE_RELEASED'));
  });

  it('says what is wrong with what it is given', () => {
    using store = storeOf(MIB);
    assert.throws(() => store.lease(bytes(1)), coded('ERR_INFERKV_INPUT_INVALID'));
    assert.throws(() => store.put(bytes(1), bytes(1), facts), coded('ERR_INFERKV_INPUT_INVALID'));
    const large = { costMs: 1, metadata: new Uint8Array(65_536) };
    assert.throws(() => store.put(a, bytes(1), large), coded('ERR_INFERKV_INPUT_INVALID'));
    for (const lengthBytes of [-1, 0.5, Number.NaN]) {
      const writer = { lengthBytes, write: () => undefined };
      assert.throws(() => store.put(a, writer, facts), coded('ERR_INFERKV_INPUT_INVALID'));
    }
    for (const budgetBytes of [0, -1, Number.NaN, 1000, Number.POSITIVE_INFINITY]) {
      const make = (): unknown => SharedMemoryStore.create({ budgetBytes, policy: policyOf('lru') });
      assert.throws(make, coded('ERR_INFERKV_CONFIG_INVALID'));
    }
    assert.equal(store.stats().activeLeases, 0);
  });

  it('ends: nothing is found or kept any more, what is leased stays', () => {
    const store = storeOf(MIB);
    store.put(a, bytes(1), facts);
    const reader = SharedMemoryReader.attach(store.handle());
    const lease = reader.lease(a);
    store.close();
    store.close();
    assert.deepEqual([read(store, a), read(reader, a), store.put(a, bytes(2), facts)], [undefined, undefined, false]);
    assert.deepEqual([...(lease?.bytes ?? [])], [1]);
    assert.throws(() => SharedMemoryReader.attach(store.handle()), coded('ERR_INFERKV_CLOSED'));
    assert.throws(() => reader.reserve(10), coded('ERR_INFERKV_CLOSED'));
    lease?.release();
  });

  it('reaches past four gigabytes', () => {
    using store = storeOf(6 * 2 ** 30, { segmentBytes: 2 ** 30 });
    const writer = (mark: number): Parameters<SharedMemoryStore['put']>[1] => ({
      lengthBytes: 700 * MIB,
      // The rest is never touched, so the system need not find memory for it.
      write: (into) => into.set([mark], into.length - 1),
    });
    for (let key = 0; key < 6; key++) assert.equal(store.put(digestOf(key), writer(key), facts), true);
    assert.equal(store.stats().evictions, 0);
    const segments = new Set();
    for (let key = 0; key < 6; key++) {
      using lease = store.lease(digestOf(key));
      assert.equal(lease?.bytes.at(-1), key);
      segments.add(lease?.bytes.buffer);
    }
    assert.equal(segments.size, 6);
  });
});

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
        return { ...policy, touch: (slot) => void touched.push(slot) };
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
});
