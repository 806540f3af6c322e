import assert from 'node:assert/strict';
import { lstatSync, readdirSync } from 'node:fs';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { FakeClock } from '../../base/clock.ts';
import { isInferkvError } from '../../base/errors.ts';
import { createRandom } from '../../base/random.ts';
import { TempFolder } from '../../../test/support/temp.ts';
import { createDiskStore, type DiskStore } from './index.ts';

const MIB = 2 ** 20;

/** A store whose time the test moves. */
class Bench {
  readonly temp: TempFolder = new TempFolder();
  readonly clock: FakeClock = new FakeClock();
  nowMs = 1_700_000_000_000;
  store: DiskStore;
  readonly budgetBytes: number;

  constructor(budgetBytes = 64 * MIB) {
    this.budgetBytes = budgetBytes;
    this.store = this.open();
  }

  open(): DiskStore {
    const { temp, clock, budgetBytes } = this;
    return createDiskStore({ folder: temp.at('store'), budgetBytes, clock, wallClock: () => this.nowMs });
  }

  bytesOnDisk(): number {
    return readdirSync(this.temp.at('store')).reduce(
      (sum, name) => sum + (lstatSync(this.temp.at('store', name), { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    this.temp[Symbol.dispose]();
  }
}

const name = fc.integer({ min: 0, max: 5 }).map((at) => `name/${at}`);
const length = fc.oneof(
  fc.integer({ min: 0, max: 200 }),
  fc.constantFrom(16_384, 16_385, 3000),
  fc.integer({ min: 17_000, max: 400_000 }),
);
const step = fc.oneof(
  fc.record({
    do: fc.constant('put' as const),
    name,
    length,
    byte: fc.nat(255),
    ttlMs: fc.option(fc.integer({ min: 1, max: 100 })),
  }),
  fc.record({ do: fc.constant('get' as const), name }),
  fc.record({ do: fc.constant('delete' as const), name }),
  fc.record({ do: fc.constant('pass' as const), byMs: fc.integer({ min: 1, max: 60 }) }),
  fc.record({ do: fc.constant('restart' as const) }),
  fc.record({ do: fc.constant('upkeep' as const) }),
);

describe('disk store', () => {
  it('does as a map does, whatever is done to it, restarts included', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        await using bench = new Bench();
        const plain = new Map<string, { bytes: Uint8Array; until: number }>();
        const find = (of: string): Uint8Array | undefined => {
          const found = plain.get(of);
          return found === undefined || found.until <= bench.nowMs ? undefined : found.bytes;
        };
        for (const each of steps) {
          if (each.do === 'put') {
            const bytes = new Uint8Array(each.length).fill(each.byte);
            const ttlMs = each.ttlMs ?? undefined;
            assert.equal(await bench.store.put(each.name, [bytes], { ttlMs }), 'stored');
            plain.set(each.name, { bytes, until: bench.nowMs + (ttlMs ?? Number.POSITIVE_INFINITY) });
          } else if (each.do === 'get') {
            const read = await bench.store.get(each.name);
            const expected = find(each.name);
            assert.equal(read?.length, expected?.length);
            if (read !== undefined) assert.equal(Buffer.compare(read, expected as Uint8Array), 0);
          } else if (each.do === 'delete') {
            assert.equal(await bench.store.delete(each.name), find(each.name) !== undefined);
            plain.delete(each.name);
          } else if (each.do === 'pass') bench.nowMs += each.byMs;
          else if (each.do === 'upkeep') bench.clock.advance(1000);
          else {
            await bench.store.close();
            bench.store = bench.open();
            await bench.store.get('x');
            assert.equal(bench.store.stats().restored, plain.size);
          }
        }
      }),
      { numRuns: 40, seed: 11 },
    );
  });

  it('keeps within its budget, and what was read lately', async () => {
    await using bench = new Bench(8 * MIB);
    const random = createRandom(5);
    await bench.store.put('hot', [new Uint8Array(30_000).fill(1)]);
    for (let at = 0; at < 400; at++) {
      assert.equal(await bench.store.put(`cold/${at}`, [new Uint8Array(20_000 + random.below(100_000))]), 'stored');
      if (at % 5 === 0) {
        assert.equal((await bench.store.get('hot'))?.[0], 1, `hot is gone after ${at}`);
        bench.clock.advance(1000);
      }
      assert.ok(bench.bytesOnDisk() <= 8 * MIB, `${bench.bytesOnDisk()} bytes`);
    }
    const { evictions = 0, records = 0, usedBytes = 0 } = bench.store.stats();
    assert.ok(evictions > 200, `${evictions} evictions`);
    assert.ok(records > 40, `${records} records are there`);
    assert.ok(usedBytes <= 8 * MIB && usedBytes > 4 * MIB, `${usedBytes} bytes`);
    assert.ok(await bench.store.get('cold/399'));
  });

  it('moves small records on to files when the index has its share, and drops the oldest when all is full', async () => {
    await using bench = new Bench(8 * MIB);
    const count = 3000;
    for (let at = 0; at < count; at += 20) {
      const puts = Array.from({ length: 20 }, (_, each) =>
        bench.store.put(`small/${at + each}`, [new Uint8Array(4000).fill((at + each) % 251)]),
      );
      for (const outcome of await Promise.all(puts)) assert.equal(outcome, 'stored');
      assert.ok(bench.bytesOnDisk() <= 8 * MIB, `${bench.bytesOnDisk()} bytes`);
    }
    await bench.store.close();
    bench.store = bench.open();
    let found = 0;
    for (let at = 0; at < count; at++) {
      const read = await bench.store.get(`small/${at}`);
      if (read === undefined) continue;
      assert.equal(read[3999], at % 251);
      found++;
    }
    // Of 12 MB more than half are there: far more than the index alone would have.
    assert.ok(found * 4000 > 4 * MIB, `${found} are there`);
    assert.equal(found, bench.store.stats().records);
  });

  it('uses the room of what was overwritten again, and keeps the rest', async () => {
    await using bench = new Bench(8 * MIB);
    for (let at = 0; at < 20; at++) await bench.store.put(`kept/${at}`, [new Uint8Array(50_000).fill(at)]);
    for (let round = 0; round < 400; round++)
      await bench.store.put('over', [new Uint8Array(100_000).fill(round % 251)]);
    for (let at = 0; at < 20; at++) assert.equal((await bench.store.get(`kept/${at}`))?.[7], at, `kept/${at} is gone`);
    assert.equal((await bench.store.get('over'))?.[0], 399 % 251);
    assert.equal(bench.store.stats().evictions, 0);
  });

  it('does not read a place again that was reclaimed: an old entry leads to nothing', async () => {
    await using bench = new Bench(8 * MIB);
    await bench.store.put('a', [new Uint8Array(300_000).fill(1)]);
    const reading = bench.store.get('a');
    await bench.store.delete('a');
    await bench.store.put('b', [new Uint8Array(300_000).fill(2)]);
    const read = await reading;
    assert.ok(read === undefined || read[0] === 1);
    assert.equal(await bench.store.get('a'), undefined);
  });

  it('does not begin with options that make no sense', () => {
    for (const options of [
      { budgetBytes: 1000 },
      { budgetBytes: 8 * MIB, segmentBytes: 8 * MIB },
      { budgetBytes: Number.NaN },
    ]) {
      assert.throws(
        () => createDiskStore({ folder: '/tmp/never-made', ...options }),
        (error) => isInferkvError(error, 'ERR_INFERKV_CONFIG_INVALID'),
      );
    }
  });

  it('frees the right of a process that has died, and forgets rights whose time is over', async () => {
    await using bench = new Bench();
    const token = await bench.store.grants.acquire('work', 1000);
    assert.equal(await bench.store.grants.acquire('work', 1000), undefined);
    await bench.store.close();
    bench.store = bench.open();
    const next = await bench.store.grants.acquire('work', 1000);
    assert.ok(next !== undefined && next > (token as number));
    // A clock that was put back does not make a right last longer than was asked for.
    bench.nowMs -= 3_600_000;
    assert.notEqual(await bench.store.grants.acquire('work', 1000), undefined);
  });
});
