import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { FakeClock } from '../base/clock.ts';
import { createRandom } from '../base/random.ts';
import { Speed } from './speed.ts';
import { Worth } from './worth.ts';

describe('speed', () => {
  it('learns what a call takes, and what a byte takes', () => {
    const speed = new Speed();
    assert.equal(speed.expectedMs(1000), undefined);
    for (let call = 0; call < 50; call++) speed.learn(100, 2);
    for (let call = 0; call < 50; call++) speed.learn(1_000_000, 12);
    assert.ok(Math.abs((speed.expectedMs(1_000_000) ?? 0) - 12) < 0.5);
    assert.ok(Math.abs((speed.expectedMs(100) ?? 0) - 2) < 0.1);
    assert.ok(Math.abs((speed.bytesPerSecond ?? 0) - 100e6) < 5e6);
  });

  it('expects more of more bytes, whatever it was taught', () => {
    const taught = fc.array(fc.tuple(fc.nat(5_000_000), fc.double({ min: 0, max: 1000, noNaN: true })), {
      minLength: 3,
    });
    fc.assert(
      fc.property(taught, fc.nat(1e6), fc.nat(1e6), (calls, a, b) => {
        const speed = new Speed();
        for (const [bytes, ms] of calls) speed.learn(bytes, ms);
        const [less, more] = [speed.expectedMs(Math.min(a, b)) ?? 0, speed.expectedMs(Math.max(a, b)) ?? 0];
        assert.ok(less >= 0 && more >= less);
      }),
    );
  });
});

describe('load or recompute', () => {
  const over = (expectedMs: number | undefined): { readonly worth: Worth; readonly clock: FakeClock } => {
    const clock = new FakeClock();
    return {
      worth: new Worth({ expectedMs: () => expectedMs, learn: () => undefined }, clock, createRandom(3)),
      clock,
    };
  };

  it('fetches where nothing is known', async () => {
    const { worth } = over(1000);
    assert.equal(await worth.fetch('new', undefined, async () => 7), 7);
    assert.equal(await worth.fetch(undefined, undefined, async () => 7), 7);
  });

  it('does not fetch what is known to be dearer than computing, but for a probe now and then', async () => {
    const { worth } = over(50);
    worth.learn('cheap', 1e6, 5);
    let fetched = 0;
    for (let request = 0; request < 2000; request++) {
      await worth.fetch('cheap', undefined, async () => ++fetched);
    }
    assert.ok(fetched > 5 && fetched < 100, `${fetched} probes of 2,000`);
    assert.equal(worth.stats().skipped, 2000 - fetched);
  });

  it('fetches what is faster than computing', async () => {
    const { worth } = over(5);
    worth.learn('dear', 1e6, 50);
    assert.equal(await worth.fetch('dear', undefined, async () => 7), 7);
    assert.deepEqual(worth.stats(), { skipped: 0, abandoned: 0 });
  });

  it('gives up a fetch that has taken as long as computing', async () => {
    const { worth, clock } = over(5);
    worth.learn('dear', 1e6, 50);
    const fetching = worth.fetch(
      'dear',
      undefined,
      (signal) =>
        new Promise<number | undefined>((resolve) => signal?.addEventListener('abort', () => resolve(undefined))),
    );
    clock.advance(49);
    clock.advance(2);
    assert.equal(await fetching, undefined);
    assert.equal(worth.stats().abandoned, 1);
  });
});
