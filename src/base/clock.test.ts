import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { FakeClock, systemClock } from './clock.ts';

describe('the fake clock', () => {
  it('stands still until it is moved, and fires what falls due, in order, at its time', () => {
    const clock = new FakeClock();
    const fired: string[] = [];
    clock.after(20, () => fired.push(`b at ${clock.now()}`));
    clock.after(10, () => {
      fired.push(`a at ${clock.now()}`);
      clock.after(5, () => fired.push(`within at ${clock.now()}`));
    });
    clock.after(15, () => fired.push('never')).cancel();
    clock.advance(9);
    assert.deepEqual([clock.now(), fired], [9, []]);
    clock.advance(100);
    assert.deepEqual([clock.now(), fired], [109, ['a at 10', 'within at 15', 'b at 20']]);
  });
});

describe('the system clock', () => {
  it('never goes back, and lets a timer be cancelled', () => {
    const first = systemClock.now();
    systemClock.after(0, () => assert.fail('it was cancelled')).cancel();
    assert.ok(systemClock.now() >= first);
  });
});
