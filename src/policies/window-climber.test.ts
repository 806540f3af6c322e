import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { createRandom } from '../base/random.ts';
import { WindowClimber } from './window-climber.ts';

const ENTRIES = 100;

/** The share after a while, where the hit rate follows from the share. */
function climbed(hitRate: (share: number) => number, steps = 200): number {
  const climber = new WindowClimber();
  const random = createRandom(3);
  for (let step = 0; step < steps;) {
    if (climber.sees(random.next() < hitRate(climber.share), ENTRIES)) step++;
  }
  return climber.share;
}

describe('the climber of the window', () => {
  it('goes up where a larger window hits more, and down where it hits less', () => {
    assert.ok(climbed((share) => 0.1 + 0.8 * share) > 0.6);
    assert.ok(climbed((share) => 0.9 - 0.8 * share) < 0.4);
  });

  it('stays a share of the budget', () => {
    for (const rate of [0, 1]) {
      const share = climbed(() => rate);
      assert.ok(share >= 0 && share < 1, `${share}`);
    }
  });

  it('changes nothing between two samples', () => {
    const climber = new WindowClimber();
    const { share } = climber;
    for (let request = 1; request < 2 * ENTRIES; request++) assert.equal(climber.sees(true, ENTRIES), false);
    assert.equal(climber.share, share);
    assert.equal(climber.sees(true, ENTRIES), true);
    assert.notEqual(climber.share, share);
  });
});
