import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { FakeClock } from '../base/clock.ts';
import { createRandom } from '../base/random.ts';
import { Breaker, type BreakerState } from './breaker.ts';

describe('breaker', () => {
  const make = (): { readonly clock: FakeClock; readonly breaker: Breaker; readonly states: BreakerState[] } => {
    const clock = new FakeClock();
    const states: BreakerState[] = [];
    const options = { failures: 3, firstPauseMs: 100, maxPauseMs: 400 };
    const breaker = new Breaker(clock, createRandom(1), options, (state) => void states.push(state));
    return { clock, breaker, states };
  };

  const fail = (breaker: Breaker, times: number): void => {
    for (let time = 0; time < times; time++) {
      assert.ok(breaker.admits());
      breaker.failed();
    }
  };

  it('opens after failures in a row, and not after as many with a success between', () => {
    const { breaker } = make();
    fail(breaker, 2);
    breaker.succeeded();
    fail(breaker, 2);
    assert.equal(breaker.state, 'closed');
    fail(breaker, 1);
    assert.equal(breaker.state, 'open');
    assert.ok(breaker.isShut && !breaker.admits());
  });

  it('lets one call through after its pause, and closes when that succeeds', () => {
    const { clock, breaker, states } = make();
    fail(breaker, 3);
    clock.advance(101);
    assert.equal(breaker.isShut, false);
    assert.ok(breaker.admits());
    assert.equal(breaker.admits(), false, 'one at a time');
    breaker.succeeded();
    assert.ok(breaker.admits() && breaker.admits());
    assert.deepEqual(states, ['open', 'half-open', 'closed']);
  });

  it('waits longer each time a probe fails, up to a bound', () => {
    const { clock, breaker } = make();
    fail(breaker, 3);
    for (const longest of [100, 200, 400, 400]) {
      clock.advance(longest / 2 - 1);
      assert.equal(breaker.admits(), false, `before half of ${longest}`);
      clock.advance(longest / 2 + 2);
      assert.ok(breaker.admits(), `after ${longest}`);
      breaker.failed();
    }
    assert.equal(breaker.opened, 5);
  });

  it('probes again where a probe’s caller gave up', () => {
    const { clock, breaker } = make();
    fail(breaker, 3);
    clock.advance(101);
    assert.ok(breaker.admits());
    breaker.spared();
    assert.equal(breaker.admits(), false, 'not at once');
    clock.advance(101);
    assert.ok(breaker.admits());
  });

  it('hears nothing new from calls that began before it opened', () => {
    const { clock, breaker } = make();
    for (let call = 0; call < 9; call++) assert.ok(breaker.admits());
    for (let call = 0; call < 9; call++) breaker.failed();
    assert.equal(breaker.opened, 1);
    clock.advance(101);
    assert.ok(breaker.admits());
  });
});
