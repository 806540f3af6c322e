import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { isInferkvError } from '../../src/base/errors.ts';
import { gdsf } from '../../src/policies/gdsf.ts';
import { lfu } from '../../src/policies/lfu.ts';
import { lru } from '../../src/policies/lru.ts';
import type { Policy, PolicyContext, PolicyFactory } from '../../src/policies/policy.ts';
import { createPolicy } from '../../src/policies/registry.ts';
import { describePolicy, play, SlotTable, steps } from './policy.ts';

describePolicy('lru', lru);
describePolicy('lfu', lfu);
describePolicy('gdsf', gdsf);

/** Least recently used, by searching: pinned entries count as used when they are passed over. */
function plainLru(context: PolicyContext): Policy {
  const order: number[] = [];
  const drop = (slot: number): void => void order.splice(order.indexOf(slot), 1);
  const renew = (slot: number): void => {
    drop(slot);
    order.push(slot);
  };
  return {
    name: 'plain lru',
    insert: (slot) => void order.push(slot),
    touch: renew,
    update: () => undefined,
    leave: drop,
    victim() {
      for (const slot of [...order]) {
        if (!context.isPinned(slot)) return slot;
        renew(slot);
      }
      return -1;
    },
  };
}

/** The GreedyDual family as its papers write it: search for the lowest priority, oldest first among equals. */
function plainGreedyDual(context: PolicyContext, worth: (slot: number, uses: number) => number): Policy {
  const entries = new Map<number, { uses: number; priority: number; order: number }>();
  let age = 0;
  let counter = 0;
  const rank = (slot: number, uses: number): void =>
    void entries.set(slot, { uses, priority: age + worth(slot, uses), order: counter++ });
  return {
    name: 'plain greedy dual',
    insert: (slot) => rank(slot, 1),
    touch: (slot) => rank(slot, (entries.get(slot)?.uses ?? 0) + 1),
    update: (slot) => rank(slot, entries.get(slot)?.uses ?? 0),
    leave(slot, why) {
      if (why === 'evicted') age = Math.max(age, entries.get(slot)?.priority ?? 0);
      entries.delete(slot);
    },
    victim() {
      const free = [...entries].filter(([slot]) => !context.isPinned(slot));
      return free.toSorted(([, a], [, b]) => a.priority - b.priority || a.order - b.order)[0]?.[0] ?? -1;
    },
  };
}

const plain: readonly (readonly [string, PolicyFactory, PolicyFactory])[] = [
  ['lru', lru, plainLru],
  ['lfu', lfu, (context) => plainGreedyDual(context, (_slot, uses) => uses)],
  [
    'gdsf',
    gdsf,
    (context) =>
      plainGreedyDual(context, (slot, uses) => (uses * Math.max(1e-3, context.costMs(slot))) / context.sizeBytes(slot)),
  ],
];

describe('policies against their plain forms', () => {
  for (const [name, factory, plainFactory] of plain) {
    it(`${name}: victim by victim`, () => {
      fc.assert(
        fc.property(steps, (sequence) => {
          const victims = [factory, plainFactory].map((make) => {
            const seen: number[] = [];
            const table = new SlotTable();
            play(make(table.context()), table, sequence, (victim) => seen.push(victim));
            return seen;
          });
          assert.deepEqual(victims[0], victims[1]);
        }),
      );
    });
  }
});

describe('what each policy is for', () => {
  const victimsOf = (factory: PolicyFactory, sequence: Parameters<typeof play>[2]): readonly number[] => {
    const victims: number[] = [];
    const table = new SlotTable();
    play(factory(table.context()), table, sequence, (victim) => victims.push(victim));
    return victims;
  };
  const insert = (slot: number, sizeBytes = 1, costMs = 1) => ({ do: 'insert', slot, sizeBytes, costMs }) as const;
  const evict = { do: 'evict' } as const;

  it('lru keeps what was used last', () => {
    assert.deepEqual(victimsOf(lru, [insert(0), insert(1), { do: 'touch', pick: 0 }, evict, evict]), [1, 0]);
  });

  it('lfu keeps what was used most, and lets go of what was popular once', () => {
    const often = Array.from({ length: 5 }, () => ({ do: 'touch', pick: 0 }) as const);
    assert.deepEqual(victimsOf(lfu, [insert(0), ...often, insert(1), evict]), [1]);
    // Slot 0 has six uses. Newcomers push the age up by one each, until theirs are worth more.
    const newcomers = Array.from({ length: 7 }, (_, at) => [insert(1 + at), evict]).flat();
    const victims = victimsOf(lfu, [insert(0), ...often, ...newcomers]);
    assert.equal(victims.indexOf(0), 5);
  });

  it('gdsf keeps what is dear for its size', () => {
    assert.deepEqual(
      victimsOf(gdsf, [insert(0, 100, 500), insert(1, 100, 5), insert(2, 10_000, 500), evict, evict, evict]),
      [1, 2, 0],
    );
  });
});

describe('the registry', () => {
  it('makes every policy by its name', () => {
    for (const name of ['lru', 'lfu', 'gdsf']) assert.equal(createPolicy(name, new SlotTable().context()).name, name);
  });

  it('names those there are when asked for another', () => {
    for (const name of ['mru', '', 'toString', '__proto__']) {
      assert.throws(
        () => createPolicy(name, new SlotTable().context()),
        (error) => isInferkvError(error, 'ERR_INFERKV_POLICY_UNKNOWN') && error.message.includes('lru, lfu, gdsf'),
      );
    }
  });
});
