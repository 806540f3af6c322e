import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { isInferkvError } from '../../src/base/errors.ts';
import type { PolicyContext, PolicyFactory } from '../../src/policies/policy.ts';
import { createPolicy, policyNames, type PolicyName } from '../../src/policies/registry.ts';
import { plainArc, plainFifo, plainGreedyDual, plainLru, plainS3Fifo, plainSieve } from './policy-plain.ts';
import { budgets, describePolicy, SlotTable, steps, victimsOf, type Step } from './policy.ts';

const factoryOf =
  (name: string): PolicyFactory =>
  (context) =>
    createPolicy(name, context);

for (const name of policyNames) describePolicy(name, factoryOf(name));

/** Bytes worth of use and cost, as the paper has it. */
const plainGdsf = (context: PolicyContext): ReturnType<PolicyFactory> =>
  plainGreedyDual(context, (slot, uses) => (uses * Math.max(1e-3, context.costMs(slot))) / context.sizeBytes(slot));

const plain: readonly (readonly [PolicyName, PolicyFactory])[] = [
  ['lru', plainLru],
  ['fifo', plainFifo],
  ['lfu', (context) => plainGreedyDual(context, (_slot, uses) => uses)],
  ['gdsf', plainGdsf],
  ['sieve', plainSieve],
  ['s3-fifo', plainS3Fifo],
  ['arc', plainArc],
];

describe('policies against their plain forms', () => {
  for (const [name, plainFactory] of plain) {
    it(`${name}: victim by victim`, () => {
      fc.assert(
        fc.property(steps, budgets, (sequence, budgetBytes) => {
          assert.deepEqual(
            victimsOf(factoryOf(name), sequence, budgetBytes),
            victimsOf(plainFactory, sequence, budgetBytes),
          );
        }),
        { numRuns: 200 },
      );
    });
  }
});

const insert = (slot: number, sizeBytes = 1, costMs = 1, identity = slot): Step => {
  return { do: 'insert', slot, sizeBytes, costMs, identity };
};
const touch = (slot: number): Step => ({ do: 'touch', pick: slot });
const evict: Step = { do: 'evict' };

describe('what each policy is for', () => {
  it('lru keeps what was used last', () => {
    assert.deepEqual(victimsOf(factoryOf('lru'), [insert(0), insert(1), touch(0), evict, evict]), [1, 0]);
  });

  it('fifo keeps what came last, used or not', () => {
    assert.deepEqual(victimsOf(factoryOf('fifo'), [insert(0), insert(1), touch(0), evict, evict]), [0, 1]);
  });

  it('lfu keeps what was used most, and lets go of what was popular once', () => {
    const often = Array.from({ length: 5 }, () => touch(0));
    assert.deepEqual(victimsOf(factoryOf('lfu'), [insert(0), ...often, insert(1), evict]), [1]);
    // Slot 0 has six uses. Newcomers push the age up by one each, until theirs are worth more.
    const newcomers = Array.from({ length: 7 }, (_, at) => [insert(1 + at), evict]).flat();
    assert.equal(victimsOf(factoryOf('lfu'), [insert(0), ...often, ...newcomers]).indexOf(0), 5);
  });

  it('gdsf keeps what is dear for its size', () => {
    assert.deepEqual(
      victimsOf(factoryOf('gdsf'), [
        insert(0, 100, 500),
        insert(1, 100, 5),
        insert(2, 10_000, 500),
        evict,
        evict,
        evict,
      ]),
      [1, 2, 0],
    );
  });

  it('sieve gives what was used one more round, and leaves it where it is', () => {
    assert.deepEqual(
      victimsOf(factoryOf('sieve'), [insert(0), insert(1), insert(2), touch(0), evict, evict, evict]),
      [1, 2, 0],
    );
  });

  it('s3-fifo lets go of what was used once first, and knows it again', () => {
    // Slot 0 is used twice and stays; identity 1 goes, comes back in slot 1, and then outlives newcomers.
    const sequence = [insert(0), insert(1), touch(0), touch(0), evict, insert(1), insert(2), insert(3), evict, evict];
    assert.deepEqual(victimsOf(factoryOf('s3-fifo'), sequence, 4), [1, 2, 3]);
  });

  it('arc gives room to the list in which it missed too early', () => {
    const once = [insert(0), insert(1), touch(0), evict];
    assert.deepEqual(victimsOf(factoryOf('arc'), once, 2), [1]);
    // Identity 1 is back from the ghosts of those used once: now these have a target, and one used often goes.
    assert.deepEqual(victimsOf(factoryOf('arc'), [...once, insert(1), insert(2), evict], 3), [1, 0]);
  });

  it('w-tinylfu keeps what is asked for often through a scan', () => {
    const popular = Array.from({ length: 50 }, (_, slot) => insert(slot));
    const used = Array.from({ length: 200 }, (_, at) => touch(at % 50));
    const filling = Array.from({ length: 50 }, (_, at) => insert(50 + at, 1, 1, 1000 + at));
    const scan = Array.from({ length: 500 }, (_, at) => [evict, insert(100 + at, 1, 1, 2000 + at)]).flat();
    const victims = victimsOf(factoryOf('w-tinylfu'), [...popular, ...filling, ...used, ...scan], 100);
    assert.equal(victims.length, 500);
    assert.ok(victims.filter((slot) => slot < 50).length <= 5, 'the scan swept out what is popular');
  });
});

describe('the registry', () => {
  it('makes every policy by its name', () => {
    assert.deepEqual(policyNames, ['lru', 'lfu', 'fifo', 'sieve', 's3-fifo', 'arc', 'w-tinylfu', 'gdsf']);
    for (const name of policyNames) assert.equal(createPolicy(name, new SlotTable().context()).name, name);
  });

  it('names those there are when asked for another', () => {
    for (const name of ['mru', '', 'toString', '__proto__']) {
      assert.throws(
        () => createPolicy(name, new SlotTable().context()),
        (error) => isInferkvError(error, 'ERR_INFERKV_POLICY_UNKNOWN') && error.message.includes('lru, lfu, fifo'),
      );
    }
  });
});
