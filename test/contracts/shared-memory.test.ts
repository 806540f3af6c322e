import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { threadId } from 'node:worker_threads';

import fc from 'fast-check';

import { FakeClock } from '../../src/base/clock.ts';
import type { SharedLease } from '../../src/stores/shared-memory/lease.ts';
import { SharedMemoryReader } from '../../src/stores/shared-memory/reader.ts';
import type { SharedMemoryStore } from '../../src/stores/shared-memory/store.ts';
import type { WritableSlab } from '../../src/stores/shared-memory/thread-slabs.ts';
import { countTorn, digestOf, fillPattern, seedBytes, seedOf, storeOf } from '../support/shared-memory.ts';

const ARENA_BYTES = 256 * 1024;
const KEYS = 12;

type Side = 'owner' | 'thread';
type Step =
  | { readonly do: 'put'; readonly key: number; readonly lengthBytes: number; readonly lives: boolean }
  | { readonly do: 'lease'; readonly key: number; readonly side: Side }
  | { readonly do: 'release'; readonly pick: number }
  | { readonly do: 'delete'; readonly key: number }
  | { readonly do: 'reserve'; readonly lengthBytes: number }
  | { readonly do: 'commit'; readonly pick: number; readonly key: number; readonly share: number }
  | { readonly do: 'abandon'; readonly pick: number }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'sweep' | 'invalidate' | 'hear' | 'die' };

const key = fc.nat(KEYS - 1);
const pick = fc.nat(100);
// Up to a quarter of the arena, small ones as likely as large ones.
const lengthBytes = fc
  .tuple(fc.nat(16), fc.double({ min: 0.5, max: 1, noNaN: true }))
  .map(([log, share]) => Math.floor(2 ** log * share));
const side = fc.constantFrom('owner' as const, 'thread' as const);
const does = <const Name extends string>(name: Name): fc.Arbitrary<Name> => fc.constant(name);

const stepsArbitrary: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: does('put'), key, lengthBytes, lives: fc.boolean() }) },
    { weight: 5, arbitrary: fc.record({ do: does('lease'), key, side }) },
    { weight: 4, arbitrary: fc.record({ do: does('release'), pick }) },
    { weight: 2, arbitrary: fc.record({ do: does('delete'), key }) },
    { weight: 4, arbitrary: fc.record({ do: does('reserve'), lengthBytes }) },
    {
      weight: 3,
      arbitrary: fc.record({ do: does('commit'), pick, key, share: fc.double({ min: 0, max: 1, noNaN: true }) }),
    },
    { weight: 1, arbitrary: fc.record({ do: does('abandon'), pick }) },
    { weight: 2, arbitrary: fc.record({ do: does('wait'), ms: fc.nat(60) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('sweep' as const, 'invalidate', 'hear', 'die') }) },
  ),
  { maxLength: 150, size: 'max' },
);

/** What lies under a key, as far as the store has not lost it. */
interface Expected {
  readonly seed: number;
  readonly lengthBytes: number;
  readonly expiresAt: number;
  readonly epoch: number;
}

/** A store with one other thread's reader, beside a plain map of what may be found. */
class Play {
  readonly clock = new FakeClock();
  readonly store: SharedMemoryStore = storeOf(ARENA_BYTES, {
    maxEntries: 24,
    maxThreads: 3,
    grantBytes: 4096,
    clock: this.clock,
  });
  reader: SharedMemoryReader = this.attach();
  readonly latest = new Map<number, Expected>();
  readonly leases: { readonly lease: SharedLease; readonly seed: number; readonly side: Side }[] = [];
  slabs: WritableSlab[] = [];
  epoch = 0;
  lastSeed = 0;

  attach(): SharedMemoryReader {
    return SharedMemoryReader.attach(this.store.handle(), { clock: this.clock, writes: true });
  }

  step(step: Step): void {
    if (step.do === 'put') this.put(step.key, step.lengthBytes, step.lives);
    else if (step.do === 'lease') this.lease(step.key, step.side);
    else if (step.do === 'release')
      this.leases.splice(step.pick % Math.max(1, this.leases.length), 1)[0]?.lease.release();
    else if (step.do === 'delete') this.delete(step.key);
    else if (step.do === 'reserve') this.reserve(step.lengthBytes);
    else if (step.do === 'commit') this.commit(step.pick, step.key, step.share);
    else if (step.do === 'abandon') this.slabs.splice(step.pick % Math.max(1, this.slabs.length), 1)[0]?.abandon();
    else if (step.do === 'wait') this.clock.advance(step.ms);
    else if (step.do === 'sweep') this.store.sweep(10);
    else if (step.do === 'hear') this.store.hear();
    else if (step.do === 'invalidate') {
      this.store.invalidate();
      this.epoch++;
    } else this.die();
  }

  put(at: number, length: number, lives: boolean): void {
    const seed = this.nextSeed(at);
    const kept = this.store.put(
      digestOf(at),
      { lengthBytes: length, write: (into) => fillPattern(into, seed) },
      { costMs: 1, metadata: seedBytes(seed), ...(!lives && { ttlMs: 50 }) },
    );
    if (kept) this.latest.set(at, this.expect(seed, length, this.epoch, lives ? Number.POSITIVE_INFINITY : 50));
    else this.latest.delete(at);
  }

  lease(at: number, from: Side): void {
    const lease = (from === 'owner' ? this.store : this.reader).lease(digestOf(at));
    if (lease === undefined) return;
    const expected = this.latest.get(at);
    assert.ok(expected !== undefined, 'something was found that nobody put');
    assert.equal(seedOf(lease.metadata), expected.seed);
    assert.equal(lease.lengthBytes, expected.lengthBytes);
    assert.ok(this.clock.now() < expected.expiresAt, 'it has expired');
    assert.equal(expected.epoch, this.epoch, 'it was invalidated');
    this.leases.push({ lease, seed: expected.seed, side: from });
  }

  delete(at: number): void {
    this.store.delete(digestOf(at));
    this.latest.delete(at);
    assert.equal(this.store.lease(digestOf(at)), undefined);
    assert.equal(this.reader.lease(digestOf(at)), undefined);
  }

  reserve(length: number): void {
    const slab = this.reader.reserve(length, 4);
    if (slab === undefined) return;
    slab.bytes.fill(0xff);
    this.slabs.push(slab);
  }

  commit(pickOf: number, at: number, share: number): void {
    const [slab] = this.slabs.splice(pickOf % Math.max(1, this.slabs.length), 1);
    if (slab === undefined) return;
    const seed = this.nextSeed(at);
    const length = Math.floor(slab.bytes.length * share);
    fillPattern(slab.bytes.subarray(0, length), seed);
    this.reader.commit(slab, digestOf(at), { costMs: 1, metadata: seedBytes(seed), ttlMs: 50 }, length);
    const expected = this.expect(seed, length, slab.epoch, 50);
    // The owner takes it in before it does anything else, so nothing can come between.
    this.store.hear();
    this.latest.set(at, expected);
  }

  /** The thread ends, as a worker does, with whatever it holds; another one comes. */
  die(): void {
    this.store.detach(threadId);
    this.leases.splice(0, this.leases.length, ...this.leases.filter(({ side: from }) => from === 'owner'));
    this.slabs = [];
    this.reader = this.attach();
  }

  check(): void {
    const stats = this.store.stats();
    const { arenaBytes, liveBytes, retiredBytes, grantedBytes, freeBytes, askedBytes } = stats;
    assert.equal(liveBytes + retiredBytes + grantedBytes + freeBytes, arenaBytes);
    assert.ok(askedBytes <= liveBytes && liveBytes - askedBytes <= 64 * stats.entries);
    assert.equal(stats.activeLeases, this.leases.length);
    assert.equal(stats.unreadableMessages, 0);
    for (const { lease, seed } of this.leases) assert.equal(countTorn(lease.bytes, seed), 0, 'leased bytes changed');
  }

  end(): void {
    for (const { lease } of this.leases.splice(0)) lease.release();
    for (const slab of this.slabs) slab.abandon();
    this.reader.close();
    for (let at = 0; at < KEYS; at++) this.store.delete(digestOf(at));
    const { retiredBytes, grantedBytes, liveBytes, threads, freeBytes, arenaBytes } = this.store.stats();
    assert.deepEqual([retiredBytes, grantedBytes, liveBytes, threads], [0, 0, 0, 0]);
    assert.equal(freeBytes, arenaBytes, 'everything is free again');
    this.store.close();
  }

  private nextSeed(at: number): number {
    return (++this.lastSeed << 8) | at;
  }

  private expect(seed: number, length: number, epoch: number, ttlMs: number): Expected {
    return { seed, lengthBytes: length, expiresAt: this.clock.now() + ttlMs, epoch };
  }
}

describe('the shared memory store against a plain model', () => {
  it('has the same contents, the same accounts, and leaves alone what is leased', () => {
    fc.assert(
      fc.property(stepsArbitrary, (steps) => {
        const play = new Play();
        for (const step of steps) {
          play.step(step);
          play.check();
        }
        play.end();
      }),
      { numRuns: 400 },
    );
  });

  it('keeps everything while there is room', () => {
    const play = new Play();
    for (let at = 0; at < KEYS; at++) play.put(at, 10_000, true);
    for (let at = 0; at < KEYS; at++) play.lease(at, at % 2 === 0 ? 'owner' : 'thread');
    assert.equal(play.leases.length, KEYS);
    play.check();
    play.end();
  });
});
