import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { FakeClock } from '../../base/clock.ts';
import { isInferkvError, type ErrorCode } from '../../base/errors.ts';
import { digestOf, policyOf, storeOf } from '../../../test/support/shared-memory.ts';
import { SharedMemoryReader } from './reader.ts';
import { planSizes, recordsFor } from './sizes.ts';
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

  it('evicts nothing where what is leased leaves no run that is long enough', () => {
    const key = (at: number): Uint8Array => digestOf(100 + at);
    using store = storeOf(MIB);
    for (let at = 0; at < 10; at++) store.put(key(at), new Uint8Array(100_000), facts);
    using lease = store.lease(key(5));
    const { evictions } = store.stats();
    assert.equal(store.put(a, new Uint8Array(600_000), facts), false);
    assert.deepEqual([store.stats().evictions, store.stats().entries], [evictions, 10]);
    // Up to there it would do.
    assert.equal(store.put(a, new Uint8Array(500_000), facts), true);
    assert.equal(lease?.bytes.length, 100_000);
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

  it('has as many records as there can be, and no more, where the budget is very large', () => {
    assert.equal(recordsFor(2 ** 30, 4096), 2 ** 18);
    assert.equal(recordsFor(1, 4096), 256);
    const budgetBytes = 2 ** 40;
    const { layout } = planSizes({ budgetBytes, maxEntries: recordsFor(budgetBytes, 4096) });
    assert.equal(layout.maxEntries, 2 ** 24);
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
