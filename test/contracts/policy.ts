import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { createRandom } from '../../src/base/random.ts';
import type { Policy, PolicyContext, PolicyFactory } from '../../src/policies/policy.ts';

/** What a partition would know of its slots, in the plainest form. */
export class SlotTable {
  readonly sizes: Map<number, number> = new Map();
  readonly costs: Map<number, number> = new Map();
  readonly pinned: Set<number> = new Set();
  now = 0;

  get occupied(): readonly number[] {
    return [...this.sizes.keys()];
  }

  context(seed = 1): PolicyContext {
    const random = createRandom(seed);
    return {
      sizeBytes: (slot) => this.fact(this.sizes, slot),
      costMs: (slot) => this.fact(this.costs, slot),
      identity: (slot) => slot,
      parent: () => -1,
      isPinned: (slot) => this.pinned.has(slot),
      now: () => this.now,
      random: () => random.next(),
      budgetBytes: 1 << 20,
    };
  }

  /** What the table knows of a slot that holds an entry. */
  fact(facts: ReadonlyMap<number, number>, slot: number): number {
    const fact = facts.get(slot);
    assert.notEqual(fact, undefined, `the policy asked about the empty slot ${slot}`);
    return fact ?? 0;
  }
}

/** A step in the life of a partition; `pick` chooses among what is there. */
export type Step =
  | { readonly do: 'insert'; readonly slot: number; readonly sizeBytes: number; readonly costMs: number }
  | { readonly do: 'touch'; readonly pick: number }
  | { readonly do: 'remove'; readonly pick: number }
  | { readonly do: 'pin'; readonly pick: number }
  | { readonly do: 'unpin'; readonly pick: number }
  | { readonly do: 'update'; readonly pick: number; readonly sizeBytes: number }
  | { readonly do: 'evict' };

const pick = fc.nat(10_000);
const sizeBytes = fc.integer({ min: 1, max: 4096 });

/** Sequences of steps over more slots than the first capacity of any array. */
export const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ do: fc.constant('insert' as const), slot: fc.nat(200), sizeBytes, costMs: fc.nat(500) }),
    },
    { weight: 6, arbitrary: fc.record({ do: fc.constant('touch' as const), pick }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constantFrom('remove' as const, 'pin' as const, 'unpin' as const), pick }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('update' as const), pick, sizeBytes }) },
    { weight: 3, arbitrary: fc.constant({ do: 'evict' as const }) },
  ),
  { maxLength: 400, size: 'max' },
);

/** Plays steps as a partition would, and reports every victim. */
export function play(
  policy: Policy,
  table: SlotTable,
  sequence: readonly Step[],
  onVictim: (victim: number) => void,
): void {
  const chosen = (among: readonly number[], by: number): number | undefined => among[by % Math.max(1, among.length)];
  for (const step of sequence) {
    table.now++;
    if (step.do === 'insert') {
      if (table.sizes.has(step.slot)) continue;
      table.sizes.set(step.slot, step.sizeBytes);
      table.costs.set(step.slot, step.costMs);
      policy.insert(step.slot);
    } else if (step.do === 'evict') {
      const victim = policy.victim();
      onVictim(victim);
      if (victim >= 0) vacate(policy, table, victim, 'evicted');
    } else {
      const slot = chosen(step.do === 'unpin' ? [...table.pinned] : table.occupied, step.pick);
      if (slot === undefined) continue;
      if (step.do === 'touch') policy.touch(slot);
      else if (step.do === 'pin') table.pinned.add(slot);
      else if (step.do === 'unpin') table.pinned.delete(slot);
      else if (step.do === 'remove') vacate(policy, table, slot, 'removed');
      else {
        table.sizes.set(slot, step.sizeBytes);
        policy.update(slot);
      }
    }
  }
}

function vacate(policy: Policy, table: SlotTable, slot: number, why: 'evicted' | 'removed'): void {
  policy.leave(slot, why);
  table.sizes.delete(slot);
  table.costs.delete(slot);
  table.pinned.delete(slot);
}

/** What every policy owes to whoever calls it (src/policies/policy.ts). */
export function describePolicy(name: string, factory: PolicyFactory): void {
  describe(`policy ${name}`, () => {
    it('says its name', () => {
      assert.equal(factory(new SlotTable().context()).name, name);
    });

    it('has no victim where there is nothing', () => {
      assert.equal(factory(new SlotTable().context()).victim(), -1);
    });

    it('names an unpinned entry as its victim whenever there is one', () => {
      fc.assert(
        fc.property(steps, (sequence) => {
          const table = new SlotTable();
          play(factory(table.context()), table, sequence, (victim) => {
            const free = table.occupied.filter((slot) => !table.pinned.has(slot));
            if (free.length === 0) assert.equal(victim, -1);
            else assert.ok(free.includes(victim), `${victim} is not among ${free.join(' ')}`);
          });
        }),
      );
    });

    it('changes nothing by being asked for a victim', () => {
      fc.assert(
        fc.property(steps, (sequence) => {
          const asked: number[] = [];
          const twice: number[] = [];
          const first = new SlotTable();
          play(factory(first.context()), first, sequence, (victim) => asked.push(victim));
          const second = new SlotTable();
          const policy = factory(second.context());
          const nosy: Policy = { ...policy, victim: () => (policy.victim(), policy.victim()) };
          play(nosy, second, sequence, (victim) => twice.push(victim));
          assert.deepEqual(twice, asked);
        }),
      );
    });

    it('gives the same victims for the same calls', () => {
      fc.assert(
        fc.property(steps, (sequence) => {
          const runs = [0, 1].map(() => {
            const victims: number[] = [];
            const table = new SlotTable();
            play(factory(table.context()), table, sequence, (victim) => victims.push(victim));
            return victims;
          });
          assert.deepEqual(runs[0], runs[1]);
        }),
      );
    });

    it('empties a full partition to the last slot', () => {
      const table = new SlotTable();
      const policy = factory(table.context());
      const inserts = Array.from({ length: 1000 }, (_, slot): Step => ({
        do: 'insert',
        slot,
        sizeBytes: 1 + slot,
        costMs: slot,
      }));
      const victims: number[] = [];
      const evictions = inserts.map((): Step => ({ do: 'evict' }));
      play(policy, table, [...inserts, ...evictions, { do: 'evict' }], (victim) => victims.push(victim));
      assert.equal(victims.pop(), -1);
      assert.deepEqual(
        victims.toSorted((a, b) => a - b),
        inserts.map((_, slot) => slot),
      );
    });
  });
}
