import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { FakeClock } from '../../src/base/clock.ts';
import { createRandom } from '../../src/base/random.ts';
import type { Lease } from '../../src/cache/partition.ts';
import { createAdmission } from '../../src/policies/registry.ts';
import { BOX_OVERHEAD_BYTES } from '../support/box-codec.ts';
import { sharedBoxes } from '../support/shared-partition.ts';
import { box, describePartition, type Box } from './partition.ts';

const ENTRY_BYTES = 10 + BOX_OVERHEAD_BYTES;
const policies = ['lru', 'lfu', 'gdsf', 's3-fifo', 'w-tinylfu'];
// Together ten thousand runs.
const RUNS = 2000;

for (const policy of policies) {
  describePartition(`shared, ${policy}`, {
    overheadBytes: BOX_OVERHEAD_BYTES,
    make: (setup) => sharedBoxes(policy, setup),
  });
}

type Step =
  | { readonly do: 'set' | 'fetch'; readonly key: number; readonly sizeBytes: number; readonly reserve: boolean }
  | { readonly do: 'get' | 'delete' | 'tag' | 'lease'; readonly key: number }
  | { readonly do: 'release'; readonly pick: number }
  | { readonly do: 'wait'; readonly ms: number };

const key = fc.nat(12);
const sizeBytes = fc.oneof(fc.nat(10), fc.nat(20_000));
const stepsArbitrary: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    fc.record({ do: fc.constantFrom('set' as const, 'fetch' as const), key, sizeBytes, reserve: fc.boolean() }),
    fc.record({ do: fc.constantFrom('get' as const, 'delete' as const, 'tag' as const, 'lease' as const), key }),
    fc.record({ do: fc.constant('release' as const), pick: fc.nat(100) }),
    fc.record({ do: fc.constant('wait' as const), ms: fc.nat(60) }),
  ),
  { maxLength: 120, size: 'max' },
);

interface Latest {
  readonly text: string;
  readonly tag: string;
  readonly tenant: string;
  readonly goneAt: number;
}

/** Plays steps beside a plain map, which never evicts: the partition may have lost an entry, and may never have another. */
async function playAgainstModel(policy: string, steps: readonly Step[]): Promise<void> {
  const clock = new FakeClock();
  const partition = sharedBoxes(policy, {
    budgetBytes: 8 * ENTRY_BYTES,
    clock,
    ttlMs: 100,
    maxTenantBytes: 5 * ENTRY_BYTES,
    fillByte: 0xdb,
  });
  const latest = new Map<string, Latest>();
  const leases: { readonly lease: Lease<Box>; readonly text: string }[] = [];
  let made = 0;
  const make = (name: string, tag: string, tenant: string): string => {
    const text = `#${made++}`;
    latest.set(name, { text, tag, tenant, goneAt: clock.now() + 100 });
    return text;
  };
  const expected = (name: string): string | undefined => {
    const known = latest.get(name);
    return known === undefined || known.goneAt <= clock.now() ? undefined : known.text;
  };
  const check = (): void => {
    const { usedBytes, budgetBytes, entries, activeLeases, insertions, departedBy } = partition.stats();
    assert.ok(usedBytes <= budgetBytes, `${usedBytes} bytes in use`);
    assert.equal(activeLeases, leases.length);
    const departed = Object.values(departedBy).reduce((sum, each) => sum + each, 0);
    assert.equal(insertions, entries + departed, 'every entry lies here or has left for a reason');
    for (const { tenant, usedBytes: its } of partition.tenantStats()) assert.ok(its <= 5 * ENTRY_BYTES, tenant);
    const tenants = partition.tenantStats();
    assert.equal(
      tenants.reduce((sum, each) => sum + each.entries, 0),
      entries,
    );
    for (const { lease, text } of leases) assert.equal(lease.value.text, text, 'leased bytes stay as they are');
  };
  for (const step of steps) {
    if (step.do === 'wait') clock.advance(step.ms);
    else if (step.do === 'release') leases.splice(step.pick % Math.max(1, leases.length), 1)[0]?.lease.release();
    else {
      const name = `k${step.key}`;
      const tag = `t${step.key % 3}`;
      const tenant = `of${step.key % 2}`;
      if (step.do === 'set') {
        const text = make(name, tag, tenant);
        partition.set(name, box(text, step.sizeBytes), { sizeBytes: step.sizeBytes, costMs: 1, tags: [tag], tenant });
      } else if (step.do === 'fetch') {
        // Waiting for room would wait for this very test, so it is asked for only where nothing is leased.
        const reserve = step.reserve && leases.length === 0 && step.sizeBytes < 8 * ENTRY_BYTES;
        const { lease } = await partition.fetch(
          name,
          async () => {
            const value = box(make(name, tag, tenant), step.sizeBytes);
            return { value, sizeBytes: step.sizeBytes, tags: [tag], tenant };
          },
          reserve ? { reserveBytes: step.sizeBytes } : {},
        );
        const text = latest.get(name)?.text as string;
        assert.equal(lease.value.text, text);
        leases.push({ lease, text });
      } else if (step.do === 'lease') {
        const lease = partition.lease(name);
        if (lease !== undefined) {
          const text = expected(name) as string;
          assert.equal(lease.value.text, text);
          leases.push({ lease, text });
        }
      } else if (step.do === 'get') {
        const value = partition.get(name);
        if (value !== undefined) assert.equal(value.text, expected(name));
        else assert.notEqual(partition.explain(name).state, 'present');
      } else if (step.do === 'delete') {
        partition.delete(name);
        assert.equal(partition.get(name), undefined);
      } else {
        partition.invalidateTag(tag);
        assert.equal(partition.get(name), undefined);
      }
    }
    check();
  }
  await partition.close();
  for (const { lease, text } of leases.splice(0)) {
    assert.equal(lease.value.text, text);
    lease.release();
  }
  const { usedBytes, activeLeases, entries } = partition.stats();
  assert.deepEqual([usedBytes, activeLeases, entries], [0, 0, 0]);
}

describe('shared partition against a plain map', () => {
  for (const policy of policies) {
    it(policy, () =>
      fc.assert(
        fc.asyncProperty(stepsArbitrary, (steps) => playAgainstModel(policy, steps)),
        { numRuns: RUNS },
      ),
    );
  }
});

describe('shared partition: what lies with its entries', () => {
  const facts = { sizeBytes: 10, costMs: 1 };
  const roomFor = (entries: number): { readonly budgetBytes: number; readonly clock: FakeClock } => ({
    budgetBytes: entries * ENTRY_BYTES,
    clock: new FakeClock(),
  });

  it('explains where an entry is, and why it is not', () => {
    const { clock, budgetBytes } = roomFor(2);
    const partition = sharedBoxes('lru', { clock, budgetBytes, maxEntryBytes: 500 });
    const hex = 'ab'.repeat(32);
    assert.deepEqual(partition.explain(hex), { state: 'unknown', key: hex, remembered: 0 });
    partition.set(hex, box('1'), { ...facts, ttlMs: 500, tags: ['model:x', 'größe'], tenant: 'me' });
    clock.advance(100);
    partition.get(hex);
    using held = partition.lease(hex);
    const present = partition.explain(hex);
    assert.equal(held?.costMs, 1);
    assert.deepEqual(present, {
      state: 'present',
      key: hex,
      tier: 'memory',
      sizeBytes: 10,
      chargedBytes: ENTRY_BYTES,
      costMs: 1,
      uses: 2,
      savedMs: 2,
      ageMs: 100,
      expiresInMs: 400,
      tags: ['model:x', 'größe'],
      tenant: 'me',
      isLeased: true,
    });
    partition.invalidateTag('größe');
    partition.set('a', box('a'), facts);
    partition.set('b', box('b', 501), { ...facts, sizeBytes: 501 });
    held?.release();
    partition.set('c', box('c'), facts);
    partition.set('d', box('d'), facts);
    const reasons = [hex, 'a', 'b', 'c'].map((name) => {
      const found = partition.explain(name);
      return 'reason' in found ? [found.state, found.reason, found.key] : [found.state];
    });
    assert.deepEqual(reasons, [
      ['departed', 'invalidated', hex],
      ['departed', 'evicted', 'a'],
      ['refused', 'too-large', 'b'],
      ['present'],
    ]);
  });

  it('keeps a tenant within its quota at the cost of its own entries', () => {
    const partition = sharedBoxes('lru', { ...roomFor(10), quotas: { small: 2 * ENTRY_BYTES } });
    partition.set('other', box('o'), facts);
    for (const name of ['a', 'b', 'c']) partition.set(name, box(name), { ...facts, tenant: 'small' });
    assert.deepEqual(
      [partition.get('a'), partition.get('b')?.text, partition.get('other')?.text],
      [undefined, 'b', 'o'],
    );
    assert.equal(partition.stats().departedBy.quota, 1);
    using held = partition.lease('b');
    using other = partition.lease('c');
    assert.equal(partition.set('d', box('d'), { ...facts, tenant: 'small' }), false);
    assert.equal(partition.stats().refusedBy.quota, 1);
    assert.deepEqual([held?.value.text, other?.value.text], ['b', 'c']);
    const [small] = partition.tenantStats();
    assert.deepEqual(
      [small?.tenant, small?.entries, small?.usedBytes, small?.evictions, small?.refusals],
      ['small', 2, 2 * ENTRY_BYTES, 1, 1],
    );
  });

  it('asks the admission where somebody would have to go', () => {
    const partition = sharedBoxes('lru', {
      ...roomFor(2),
      admission: (context) => createAdmission('second-hit', context),
      random: createRandom(1),
    });
    assert.equal(partition.set('a', box('a'), facts), true);
    assert.equal(partition.set('b', box('b'), facts), true);
    partition.get('c');
    assert.equal(partition.set('c', box('c'), facts), false);
    partition.get('c');
    assert.equal(partition.set('c', box('c'), facts), true);
    assert.equal(partition.stats().refusedBy.admission, 1);
  });

  it('holds any number of leases, also of different entries', () => {
    const partition = sharedBoxes('lru', roomFor(400));
    const leases = Array.from({ length: 300 }, (_, at) => {
      partition.set(`k${at}`, box(`${at}`), facts);
      return partition.lease(`k${at}`);
    });
    assert.equal(partition.stats().activeLeases, 300);
    for (const [at, lease] of leases.entries()) {
      assert.equal(lease?.value.text, `${at}`);
      lease?.release();
    }
    assert.equal(partition.stats().activeLeases, 0);
  });

  it('sweeps what expired while nobody asks', () => {
    const { clock, budgetBytes } = roomFor(100);
    const partition = sharedBoxes('lru', { clock, budgetBytes, ttlMs: 100 });
    for (let at = 0; at < 50; at++) partition.set(`k${at}`, box('x'), facts);
    clock.advance(5000);
    assert.deepEqual([partition.stats().entries, partition.stats().usedBytes], [0, 0]);
  });

  it('will not be called by the policy it asks', () => {
    const { clock, budgetBytes } = roomFor(4);
    const failures: unknown[] = [];
    const partition = sharedBoxes('lru', {
      clock,
      budgetBytes,
      policy: () => ({
        name: 'meddler',
        insert: () => {
          try {
            partition.set('x', box('x'), facts);
          } catch (error) {
            failures.push((error as { readonly code?: unknown }).code);
          }
        },
        touch: () => undefined,
        update: () => undefined,
        leave: () => undefined,
        victim: () => -1,
      }),
    });
    partition.set('a', box('a'), facts);
    assert.deepEqual(failures, ['ERR_INFERKV_REENTRANT']);
    assert.equal(partition.get('a')?.text, 'a');
  });
});
