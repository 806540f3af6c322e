import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { FakeClock } from '../../src/base/clock.ts';
import { createRandom } from '../../src/base/random.ts';
import { ENTRY_OVERHEAD_BYTES } from '../../src/cache/entry-facts.ts';
import { HeapPartition } from '../../src/cache/heap-partition.ts';
import type { Lease } from '../../src/cache/partition.ts';
import { createPolicy, policyNames } from '../../src/policies/registry.ts';
import { describeBadInput } from './partition-bad-input.ts';
import { box, describePartition, settle, type Box, type PartitionSetup, type PartitionSubject } from './partition.ts';

const policies = policyNames;

function heap(policy: string, setup: PartitionSetup, free?: (value: Box) => Promise<void> | void): HeapPartition<Box> {
  return new HeapPartition<Box>({
    name: 'test',
    policy: (context) => createPolicy(policy, context),
    random: createRandom(1),
    ...setup,
    ...(free !== undefined && { free }),
  });
}

for (const policy of policies) {
  const subject: PartitionSubject = { overheadBytes: ENTRY_OVERHEAD_BYTES, make: (setup) => heap(policy, setup) };
  describePartition(`heap, ${policy}`, subject);
  describeBadInput(`heap, ${policy}`, subject);
}

type Step =
  | { readonly do: 'set' | 'fetch'; readonly key: number; readonly sizeBytes: number; readonly reserve: boolean }
  | { readonly do: 'get' | 'delete' | 'tag'; readonly key: number }
  | { readonly do: 'lease'; readonly key: number }
  | { readonly do: 'release'; readonly pick: number }
  | { readonly do: 'wait'; readonly ms: number };

const key = fc.nat(12);
const stepsArbitrary: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    fc.record({
      do: fc.constantFrom('set' as const, 'fetch' as const),
      key,
      sizeBytes: fc.nat(900),
      reserve: fc.boolean(),
    }),
    fc.record({ do: fc.constantFrom('get' as const, 'delete' as const, 'tag' as const, 'lease' as const), key }),
    fc.record({ do: fc.constant('release' as const), pick: fc.nat(100) }),
    fc.record({ do: fc.constant('wait' as const), ms: fc.nat(60) }),
  ),
  { maxLength: 120, size: 'max' },
);

/** Plays steps and holds the partition to what must be true after each, whatever the policy chose to evict. */
async function playAgainstModel(policy: string, steps: readonly Step[]): Promise<void> {
  const clock = new FakeClock();
  const freed = new Map<Box, number>();
  const made: Box[] = [];
  const budgetBytes = 4 * (ENTRY_OVERHEAD_BYTES + 500);
  const partition = heap(
    policy,
    { budgetBytes, clock, ttlMs: 100 },
    (value) => void freed.set(value, (freed.get(value) ?? 0) + 1),
  );
  /** The last value put under a key; the partition may have lost it, but may never have another. */
  const latest = new Map<string, Box>();
  const leases: Lease<Box>[] = [];
  const make = (name: string): Box => {
    const value = box(`${name}#${made.length}`);
    made.push(value);
    return value;
  };
  const check = (): void => {
    assert.ok(partition.stats().usedBytes <= budgetBytes, `${partition.stats().usedBytes} bytes in use`);
    for (const lease of leases)
      assert.equal(freed.get(lease.value), undefined, `${lease.value.text} was freed under a lease`);
    for (const times of freed.values()) assert.equal(times, 1);
  };
  for (const step of steps) {
    if (step.do === 'wait') clock.advance(step.ms);
    else if (step.do === 'release') leases.splice(step.pick % Math.max(1, leases.length), 1)[0]?.release();
    else {
      const name = `k${step.key}`;
      if (step.do === 'set') {
        const value = make(name);
        latest.set(name, value);
        partition.set(name, value, { sizeBytes: step.sizeBytes, costMs: step.sizeBytes, tags: [`t${step.key % 3}`] });
      } else if (step.do === 'fetch') {
        // Waiting for room would wait for this very test, so it is asked for only where nothing is leased.
        const reserve = step.reserve && leases.length === 0;
        const { lease } = await partition.fetch(
          name,
          async () => {
            const value = make(name);
            latest.set(name, value);
            return { value, sizeBytes: step.sizeBytes, tags: [`t${step.key % 3}`] };
          },
          reserve ? { reserveBytes: step.sizeBytes } : {},
        );
        assert.equal(lease.value, latest.get(name));
        leases.push(lease);
      } else if (step.do === 'lease') {
        const lease = partition.lease(name);
        if (lease !== undefined) {
          assert.equal(lease.value, latest.get(name));
          leases.push(lease);
        }
      } else if (step.do === 'get') {
        const value = partition.get(name);
        if (value !== undefined) assert.equal(value, latest.get(name));
      } else if (step.do === 'delete') {
        partition.delete(name);
        assert.equal(partition.get(name), undefined);
      } else {
        partition.invalidateTag(`t${step.key % 3}`);
        assert.equal(partition.get(name), undefined);
      }
    }
    check();
  }
  await partition.close();
  check();
  for (const lease of leases) lease.release();
  await settle();
  assert.equal(freed.size, made.length, 'everything that was made is freed, once');
  assert.deepEqual([partition.stats().usedBytes, partition.stats().activeLeases], [0, 0]);
}

describe('heap partition against what must always be true', () => {
  for (const policy of policies) {
    it(policy, () =>
      fc.assert(
        fc.asyncProperty(stepsArbitrary, (steps) => playAgainstModel(policy, steps)),
        { numRuns: 100 },
      ),
    );
  }
});

describe('heap partition: what only it has', () => {
  const facts = { sizeBytes: 10, costMs: 1 };
  const roomFor = (entries: number): PartitionSetup => ({
    budgetBytes: entries * (10 + ENTRY_OVERHEAD_BYTES),
    clock: new FakeClock(),
  });

  it('corrects the size of an entry and evicts others for it', () => {
    const partition = heap('lru', roomFor(3));
    for (const name of ['a', 'b', 'c']) partition.set(name, box(name), facts);
    using held = partition.lease('c');
    partition.resize('c', 10 + ENTRY_OVERHEAD_BYTES);
    assert.deepEqual([...partition.keys()].toSorted(), ['b', 'c']);
    partition.resize('c', 10);
    partition.resize('nobody', 5);
    assert.equal(partition.stats().usedBytes, 2 * (10 + ENTRY_OVERHEAD_BYTES));
    assert.equal(held?.value.text, 'c');
  });

  it('pays a correction that nothing could pay for as soon as a lease ends', () => {
    const partition = heap('lru', roomFor(2));
    partition.set('a', box('a'), facts);
    partition.set('b', box('b'), facts);
    const a = partition.lease('a');
    const b = partition.lease('b');
    partition.resize('a', 10 + ENTRY_OVERHEAD_BYTES);
    assert.ok(partition.stats().usedBytes > partition.stats().budgetBytes);
    b?.release();
    assert.ok(partition.stats().usedBytes <= partition.stats().budgetBytes);
    assert.deepEqual([...partition.keys()], ['a']);
    a?.release();
  });

  it('counts as used what is still being freed, and waits for it at its end', async () => {
    const ends: (() => void)[] = [];
    const partition = heap('lru', roomFor(1), () => new Promise((resolve) => ends.push(resolve)));
    partition.set('a', box('a'), facts);
    partition.delete('a');
    assert.equal(partition.stats().usedBytes, 10 + ENTRY_OVERHEAD_BYTES);
    let closed = false;
    const closing = partition.close().then(() => (closed = true));
    await settle();
    assert.equal(closed, false);
    ends[0]?.();
    await closing;
    assert.equal(partition.stats().usedBytes, 0);
  });

  it('gives bytes back even where freeing fails', async () => {
    const partition = heap('lru', roomFor(1), () => Promise.reject(new Error('cannot')));
    partition.set('a', box('a'), facts);
    partition.delete('a');
    await settle();
    assert.equal(partition.stats().usedBytes, 0);
  });

  it('tells whether something would fit beside an entry', () => {
    const partition = heap('lru', roomFor(3));
    for (const name of ['a', 'b', 'c']) partition.set(name, box(name), facts);
    assert.equal(partition.fitsBeside(10, 'a'), true);
    assert.equal(partition.fitsBeside(2 * (10 + ENTRY_OVERHEAD_BYTES) - ENTRY_OVERHEAD_BYTES, 'a'), true);
    assert.equal(partition.fitsBeside(2 * (10 + ENTRY_OVERHEAD_BYTES) - ENTRY_OVERHEAD_BYTES + 1, 'a'), false);
    using held = partition.lease('b');
    assert.equal(partition.fitsBeside(10 + ENTRY_OVERHEAD_BYTES, 'a'), false);
    assert.equal(partition.isLeased('b'), true);
    assert.equal(partition.isLeased('a'), false);
    assert.equal(held?.value, partition.peek('b'));
  });
});
