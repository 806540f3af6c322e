import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { Ghosts } from './ghosts.ts';

type Step =
  | { readonly do: 'remember'; readonly identity: number; readonly bytes: number }
  | { readonly do: 'forget'; readonly identity: number }
  | { readonly do: 'trim'; readonly length: number; readonly bytes: number };

// Identities above 2^31 too, and multiples of the table's size, which only the mixing keeps apart.
const identities = fc.oneof(fc.nat(40), fc.constantFrom(0xffff_ffff, 0x8000_0000, 1 << 16, 1 << 20));

const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        do: fc.constant('remember' as const),
        identity: identities,
        bytes: fc.integer({ min: 1, max: 100 }),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('forget' as const), identity: identities }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('trim' as const), length: fc.nat(30), bytes: fc.nat(1500) }) },
  ),
  { maxLength: 300, size: 'max' },
);

describe('ghosts', () => {
  it('are what a map in order of coming would remember', () => {
    fc.assert(
      fc.property(steps, (sequence) => {
        const ghosts = new Ghosts();
        const model = new Map<number, number>();
        const bytes = (): number => [...model.values()].reduce((sum, each) => sum + each, 0);
        for (const step of sequence) {
          if (step.do === 'remember') {
            ghosts.remember(step.identity, step.bytes);
            model.delete(step.identity);
            model.set(step.identity, step.bytes);
          } else if (step.do === 'forget') {
            assert.equal(ghosts.forget(step.identity), model.delete(step.identity));
          } else {
            ghosts.trim(step.length, step.bytes);
            for (const oldest of model.keys()) {
              if (model.size <= step.length && bytes() <= step.bytes) break;
              model.delete(oldest);
            }
          }
          assert.deepEqual([ghosts.length, ghosts.bytes], [model.size, bytes()]);
        }
      }),
    );
  });

  it('are found again after the table grew', () => {
    const ghosts = new Ghosts();
    for (let identity = 0; identity < 10_000; identity++) ghosts.remember(identity, 2);
    assert.equal(ghosts.length, 10_000);
    for (let identity = 0; identity < 10_000; identity++) assert.ok(ghosts.forget(identity), `${identity} is gone`);
    assert.deepEqual([ghosts.length, ghosts.bytes], [0, 0]);
  });

  it('take no more memory for what comes and goes', () => {
    const ghosts = new Ghosts();
    const before = process.memoryUsage().arrayBuffers;
    for (let identity = 0; identity < 200_000; identity++) {
      ghosts.remember(identity, 1);
      ghosts.trim(50, Number.POSITIVE_INFINITY);
    }
    assert.equal(ghosts.length, 50);
    assert.ok(process.memoryUsage().arrayBuffers - before < 1 << 20);
  });
});
