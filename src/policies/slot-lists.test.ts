import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { SlotLists } from './slot-lists.ts';

const LISTS = 3;

const steps = fc.array(
  fc.record({
    do: fc.constantFrom('unshift', 'move', 'remove'),
    list: fc.nat(LISTS - 1),
    slot: fc.nat(150),
  }),
  { maxLength: 300, size: 'max' },
);

describe('lists of slots', () => {
  it('are what arrays would be', () => {
    fc.assert(
      fc.property(steps, (sequence) => {
        const lists = new SlotLists(LISTS);
        const model: number[][] = [[], [], []];
        const drop = (slot: number): void => {
          for (const [at, each] of model.entries()) model[at] = each.filter((other) => other !== slot);
        };
        for (const { do: what, list, slot } of sequence) {
          const isIn = model.some((each) => each.includes(slot));
          if (isIn === (what === 'unshift')) continue;
          if (what === 'remove') lists.remove(slot);
          else if (what === 'move') lists.move(list, slot);
          else {
            lists.reserve(slot);
            lists.unshift(list, slot);
          }
          drop(slot);
          if (what !== 'remove') model[list]?.unshift(slot);
          assert.deepEqual(
            [0, 1, 2].map((each) => walk(lists, each)),
            model,
          );
        }
      }),
    );
  });
});

function walk(lists: SlotLists, list: number): readonly number[] {
  const slots: number[] = [];
  for (let slot = lists.last(list); slot >= 0; slot = lists.before(slot)) slots.unshift(slot);
  if (slots.length === 0) assert.ok(lists.first(list) < 0);
  else assert.equal(lists.first(list), slots[0]);
  return slots;
}
