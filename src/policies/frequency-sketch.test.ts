import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { FrequencySketch } from './frequency-sketch.ts';

const MAX_COUNT = 15;

describe('the frequency sketch', () => {
  it('never counts less than there was since it was halved, up to its largest count', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(60), { maxLength: 600, size: 'max' }),
        fc.integer({ min: 200, max: 2000 }),
        (requests, reserved) => {
          const sketch = new FrequencySketch();
          sketch.reserve(reserved);
          const counts = new Map<number, number>();
          for (const identity of requests) {
            sketch.count(identity);
            counts.set(identity, (counts.get(identity) ?? 0) + 1);
          }
          for (const [identity, count] of counts) assert.ok(sketch.estimate(identity) >= Math.min(MAX_COUNT, count));
        },
      ),
    );
  });

  it('is right for nearly all as long as it has room for them', () => {
    const sketch = new FrequencySketch();
    sketch.reserve(4096);
    for (let identity = 0; identity < 4096; identity++) {
      for (let times = 0; times < 1 + (identity % 3); times++) sketch.count(identity);
    }
    let wrong = 0;
    for (let identity = 0; identity < 4096; identity++) {
      if (sketch.estimate(identity) !== 1 + (identity % 3)) wrong++;
    }
    assert.ok(wrong < 4096 / 20, `${wrong} of 4096 are wrong`);
  });

  it('halves its counts in time', () => {
    const sketch = new FrequencySketch();
    for (let times = 0; times < 12; times++) sketch.count(7);
    assert.equal(sketch.estimate(7), 12);
    for (let stranger = 0; stranger < 4 * sketch.entries; stranger++) sketch.count(1000 + stranger);
    assert.ok(sketch.estimate(7) < 12);
  });

  it('keeps its counts when it grows', () => {
    const sketch = new FrequencySketch();
    const identities = Array.from({ length: 40 }, (_, at) => at * 7919);
    for (const identity of identities) for (let times = 0; times < 5; times++) sketch.count(identity);
    const before = identities.map((identity) => sketch.estimate(identity));
    sketch.reserve(100_000);
    assert.ok(sketch.entries >= 100_000);
    assert.deepEqual(
      identities.map((identity) => sketch.estimate(identity)),
      before,
    );
  });
});
