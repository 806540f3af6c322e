import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { createRandom } from '../../src/base/random.ts';
import type { Departure, Policy, PolicyContext, PolicyFactory } from '../../src/policies/policy.ts';

/** What a partition would know of its slots, in the plainest form. */
export class SlotTable {
  readonly sizes: Map<number, number> = new Map();
  readonly costs: Map<number, number> = new Map();
  readonly identities: Map<number, number> = new Map();
  readonly pinned: Set<number> = new Set();
  readonly budgetBytes: number;
  now = 0;
  /** How often the policy asked for anything. */
  questions = 0;

  constructor(budgetBytes: number = 1 << 20) {
    this.budgetBytes = budgetBytes;
  }

  get occupied(): readonly number[] {
    return [...this.sizes.keys()];
  }

  context(seed = 1): PolicyContext {
    const random = createRandom(seed);
    return {
      sizeBytes: (slot) => this.fact(this.sizes, slot),
      costMs: (slot) => this.fact(this.costs, slot),
      identity: (slot) => this.fact(this.identities, slot),
      parent: () => -1,
      isPinned: (slot) => {
        this.fact(this.sizes, slot);
        return this.pinned.has(slot);
      },
      now: () => this.now,
      random: () => random.next(),
      budgetBytes: this.budgetBytes,
    };
  }

  /** What the table knows of a slot that holds an entry. */
  fact(facts: ReadonlyMap<number, number>, slot: number): number {
    this.questions++;
    const fact = facts.get(slot);
    assert.notEqual(fact, undefined, `the policy asked about the empty slot ${slot}`);
    return fact ?? 0;
  }

  enter(policy: Policy, slot: number, identity: number, bytes: number, costMs: number): void {
    this.sizes.set(slot, bytes);
    this.costs.set(slot, costMs);
    this.identities.set(slot, identity);
    policy.insert(slot);
  }

  vacate(policy: Policy, slot: number, why: Departure): void {
    policy.leave(slot, why);
    this.sizes.delete(slot);
    this.costs.delete(slot);
    this.identities.delete(slot);
    this.pinned.delete(slot);
  }
}

/** A step in the life of a partition; `pick` chooses among what is there. */
export type Step =
  | {
      readonly do: 'insert';
      readonly slot: number;
      readonly sizeBytes: number;
      readonly costMs: number;
      readonly identity?: number;
    }
  | { readonly do: 'touch'; readonly pick: number }
  | { readonly do: 'remove'; readonly pick: number }
  | { readonly do: 'pin'; readonly pick: number }
  | { readonly do: 'unpin'; readonly pick: number }
  | { readonly do: 'update'; readonly pick: number; readonly sizeBytes: number }
  | { readonly do: 'evict' };

const pick = fc.nat(10_000);
const sizeBytes = fc.integer({ min: 1, max: 4096 });
// Few enough that what was evicted comes back.
const identity = fc.nat(300);

/** Sequences of steps over more slots than the first capacity of any array. */
export const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('insert' as const),
        slot: fc.nat(200),
        sizeBytes,
        costMs: fc.nat(500),
        identity,
      }),
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
      table.enter(policy, step.slot, step.identity ?? step.slot, step.sizeBytes, step.costMs);
    } else if (step.do === 'evict') {
      const victim = policy.victim();
      onVictim(victim);
      if (victim >= 0) table.vacate(policy, victim, 'evicted');
    } else {
      const slot = chosen(step.do === 'unpin' ? [...table.pinned] : table.occupied, step.pick);
      if (slot === undefined) continue;
      if (step.do === 'touch') policy.touch(slot);
      else if (step.do === 'pin') table.pinned.add(slot);
      else if (step.do === 'unpin') table.pinned.delete(slot);
      else if (step.do === 'remove') table.vacate(policy, slot, 'removed');
      else {
        table.sizes.set(slot, step.sizeBytes);
        policy.update(slot);
      }
    }
  }
}

/** Every victim of some steps. */
export function victimsOf(factory: PolicyFactory, sequence: readonly Step[], budgetBytes?: number): readonly number[] {
  const victims: number[] = [];
  const table = new SlotTable(budgetBytes);
  play(factory(table.context()), table, sequence, (victim) => victims.push(victim));
  return victims;
}

/** Budgets around which the policies' queues are of different length: the steps' entries fill some and not others. */
export const budgets: fc.Arbitrary<number> = fc.constantFrom(1, 1000, 20_000, 100_000, 1 << 20);

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
        fc.property(steps, budgets, (sequence, budgetBytes) => {
          const table = new SlotTable(budgetBytes);
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
        fc.property(steps, budgets, (sequence, budgetBytes) => {
          const nosy: PolicyFactory = (context) => askedTwice(factory(context));
          assert.deepEqual(victimsOf(nosy, sequence, budgetBytes), victimsOf(factory, sequence, budgetBytes));
        }),
      );
    });

    it('gives the same victims for the same calls', () => {
      fc.assert(
        fc.property(steps, budgets, (sequence, budgetBytes) => {
          assert.deepEqual(victimsOf(factory, sequence, budgetBytes), victimsOf(factory, sequence, budgetBytes));
        }),
      );
    });

    it('empties a full partition to the last slot', () => {
      const inserts = Array.from({ length: 1000 }, (_, slot): Step => {
        return { do: 'insert', slot, sizeBytes: 1 + slot, costMs: slot };
      });
      const evictions = inserts.map((): Step => ({ do: 'evict' }));
      const victims = [...victimsOf(factory, [...inserts, ...evictions, { do: 'evict' }])];
      assert.equal(victims.pop(), -1);
      assert.deepEqual(
        victims.toSorted((a, b) => a - b),
        inserts.map((_, slot) => slot),
      );
    });

    it('keeps a cache within its budget, whatever is leased, and frees every slot it holds', () => {
      fc.assert(
        fc.property(
          fc.array(request, { maxLength: 300, size: 'max' }),
          fc.integer({ min: 1, max: 3 }),
          (list, seed) => {
            const cache = new SmallCache(factory, 1000, seed);
            for (const each of list) cache.request(each);
            assert.ok(cache.leastUsed <= 1000);
          },
        ),
      );
    });

    it('takes no more steps an operation in a large cache than in a small one', () => {
      const [few, many] = [500, 16_000].map((entries) => questionsAnOperation(factory, entries));
      // A logarithm would grow by 1.56, a scan by 32.
      assert.ok((many ?? 0) < 2 * (few ?? 0), `${few} questions an operation with 500 entries, ${many} with 16,000`);
    });
  });
}

/** A policy that is asked for its victim twice each time. */
function askedTwice(policy: Policy): Policy {
  return {
    name: policy.name,
    insert: (slot) => policy.insert(slot),
    touch: (slot) => policy.touch(slot),
    update: (slot) => policy.update(slot),
    leave: (slot, why) => policy.leave(slot, why),
    victim: () => (policy.victim(), policy.victim()),
  };
}

interface Request {
  readonly key: number;
  readonly bytes: number;
  readonly costMs: number;
  readonly lease: boolean;
}

const request: fc.Arbitrary<Request> = fc.record({
  key: fc.nat(80),
  bytes: fc.integer({ min: 1, max: 400 }),
  costMs: fc.nat(50),
  lease: fc.boolean(),
});

const MAX_LEASES = 3;

/** A cache of keys with sizes, in the plainest form, that makes room by what the policy says. */
class SmallCache {
  readonly #table: SlotTable;
  readonly #policy: Policy;
  readonly #slotOf = new Map<number, number>();
  readonly #free: number[] = [];
  readonly #leased: number[] = [];
  #slots = 0;

  constructor(factory: PolicyFactory, budgetBytes: number, seed: number) {
    this.#table = new SlotTable(budgetBytes);
    this.#policy = factory(this.#table.context(seed));
  }

  get leastUsed(): number {
    return [...this.#table.sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  request({ key, bytes, costMs, lease }: Request): void {
    const { sizes, pinned } = this.#table;
    const slot = this.#slotOf.get(key);
    if (slot === undefined) this.#insert(key, bytes, costMs);
    else {
      this.#policy.touch(slot);
      // A measured again entry, if there is room for it beside what is leased.
      const free = this.#room() + (pinned.has(slot) ? 0 : (sizes.get(slot) ?? 0));
      if (bytes <= free) {
        sizes.set(slot, bytes);
        this.#policy.update(slot);
        this.#makeRoom(0);
      }
    }
    const now = this.#slotOf.get(key);
    if (lease && now !== undefined && !pinned.has(now)) {
      pinned.add(now);
      this.#leased.push(now);
      if (this.#leased.length > MAX_LEASES) pinned.delete(this.#leased.shift() ?? -1);
    }
    assert.ok(this.leastUsed <= this.#table.budgetBytes, 'over budget');
  }

  /** Bytes that are free or could be made so. */
  #room(): number {
    const { sizes, pinned, budgetBytes } = this.#table;
    return budgetBytes - [...pinned].reduce((sum, slot) => sum + (sizes.get(slot) ?? 0), 0);
  }

  #insert(key: number, bytes: number, costMs: number): void {
    if (bytes > this.#room()) return;
    this.#makeRoom(bytes);
    const slot = this.#free.pop() ?? this.#slots++;
    this.#slotOf.set(key, slot);
    this.#table.enter(this.#policy, slot, key, bytes, costMs);
  }

  #makeRoom(bytes: number): void {
    while (this.leastUsed + bytes > this.#table.budgetBytes) {
      const victim = this.#policy.victim();
      assert.ok(victim >= 0, 'there is room to be made, and no victim');
      assert.ok(!this.#table.pinned.has(victim), 'the victim is leased');
      this.#slotOf.delete(this.#table.identities.get(victim) ?? -1);
      this.#table.vacate(this.#policy, victim, 'evicted');
      this.#free.push(victim);
    }
  }
}

/** Every step over a list asks the context whether the slot is pinned, so questions count steps. */
function questionsAnOperation(factory: PolicyFactory, entries: number): number {
  const table = new SlotTable(entries);
  const policy = factory(table.context());
  const random = createRandom(entries);
  const slotOf = new Map<number, number>();
  const operations = 4 * entries;
  for (let operation = 0; operation < operations; operation++) {
    // Skewed, so that hits and evictions both are many at any size.
    const key = Math.floor(3 * entries * random.next() ** 2);
    const slot = slotOf.get(key);
    if (slot !== undefined) {
      policy.touch(slot);
      continue;
    }
    let free = slotOf.size;
    if (free === entries) {
      free = policy.victim();
      slotOf.delete(table.identities.get(free) ?? -1);
      table.vacate(policy, free, 'evicted');
    }
    slotOf.set(key, free);
    table.enter(policy, free, key, 1, 1 + (key % 7));
  }
  return table.questions / operations;
}
