import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { FakeClock } from '../base/clock.ts';
import { CoarseClock } from './coarse-clock.ts';

/** Counts how often it is read. */
class CountingClock extends FakeClock {
  reads = 0;

  override now(): number {
    this.reads++;
    return super.now();
  }
}

describe('a coarse clock', () => {
  it('reads the real one once a millisecond, and is never ahead of it', () => {
    const clock = new CountingClock();
    const coarse = new CoarseClock(clock);
    for (let i = 0; i < 100; i++) assert.equal(coarse.now(), 0);
    assert.equal(clock.reads, 1);
    clock.advance(0.5);
    assert.equal(coarse.now(), 0);
    clock.advance(0.5);
    assert.equal(coarse.now(), 1);
    clock.advance(1000);
    assert.equal(coarse.now(), 1001);
    assert.equal(clock.reads, 3);
  });

  it('is exact when asked to be, and remembers that', () => {
    const clock = new CountingClock();
    const coarse = new CoarseClock(clock);
    coarse.now();
    clock.advance(0.75);
    assert.equal(coarse.exact(), 0.75);
    assert.equal(coarse.now(), 0.75);
  });
});
