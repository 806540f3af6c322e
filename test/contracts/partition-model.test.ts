import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { FakeClock } from '../../src/base/clock.ts';
import { overheadOf } from '../../src/cache/entry-facts.ts';
import type { HeapPartition } from '../../src/cache/heap-partition.ts';
import type { Lease } from '../../src/cache/partition.ts';
import { createAdmission, policyNames } from '../../src/policies/registry.ts';
import { heapBoxes } from '../support/heap-boxes.ts';
import { box, type Box } from './partition.ts';

// Together ten thousand runs of commands, over every policy there is.
const RUNS = Math.ceil(10_000 / policyNames.length);
const BUDGET_BYTES = 2500;
const TENANT_BYTES = 1200;
const TTL_MS = 100;

interface ModelEntry {
  readonly key: string;
  readonly value: Box;
  chargedBytes: number;
  readonly overheadBytes: number;
  readonly costMs: number;
  readonly expiresAt: number;
  readonly tags: readonly string[];
  readonly tenant: string | undefined;
  uses: number;
  leases: number;
  isHere: boolean;
}

interface HeldLease {
  readonly lease: Lease<Box>;
  readonly entry: ModelEntry;
}

/** What a partition must be, in the plainest form: a map, and the leases that are held. */
class Model {
  readonly entries: Map<string, ModelEntry> = new Map();
  /** Whether it is known what is evicted: the oldest, in `lru` without an admission that asks for victims. */
  readonly isLru: boolean;
  /** In the order of their last use, oldest first. */
  readonly recency: ModelEntry[] = [];
  /** What has just come in: it is used last, after what was passed over to make room for it. */
  newcomer: ModelEntry | undefined;
  readonly leases: HeldLease[] = [];
  readonly freed: Set<Box> = new Set();
  now = 0;
  hits = 0;
  misses = 0;
  savedMs = 0;
  made = 0;

  constructor(isLru: boolean) {
    this.isLru = isLru;
  }

  use(key: string): ModelEntry | undefined {
    const entry = this.entries.get(key);
    if (entry === undefined) {
      this.misses++;
      return undefined;
    }
    if (entry.expiresAt <= this.now) {
      this.drop(key);
      this.misses++;
      return undefined;
    }
    entry.uses++;
    this.hits++;
    this.savedMs += entry.costMs;
    this.renew(entry);
    return entry;
  }

  renew(entry: ModelEntry): void {
    const at = this.recency.indexOf(entry);
    if (at >= 0) this.recency.splice(at, 1);
    this.recency.push(entry);
  }

  drop(key: string): void {
    const entry = this.entries.get(key);
    if (entry === undefined) return;
    entry.isHere = false;
    this.entries.delete(key);
    this.recency.splice(this.recency.indexOf(entry), 1);
  }

  /** Lets the oldest of these go, which must be the oldest of all that nobody leases; leased ones that are passed over count as used. */
  evict(evicted: Set<ModelEntry>): void {
    while (evicted.size > 0) {
      const [oldest] = this.recency;
      assert.ok(oldest !== undefined);
      if (oldest.leases > 0) {
        this.renew(oldest);
        continue;
      }
      assert.ok(evicted.has(oldest), `${oldest.value.text} is the oldest, and stayed`);
      evicted.delete(oldest);
      this.drop(oldest.key);
    }
    if (this.newcomer !== undefined) this.recency.push(this.newcomer);
    this.newcomer = undefined;
  }

  usedBytes(): number {
    const gone = new Set(this.leases.map(({ entry }) => entry).filter(({ isHere }) => !isHere));
    return [...this.entries.values(), ...gone].reduce((sum, { chargedBytes }) => sum + chargedBytes, 0);
  }
}

interface Real {
  readonly partition: HeapPartition<Box>;
  readonly clock: FakeClock;
}

type Command = fc.Command<Model, Real>;

/** Takes from the model what the partition may have let go of by itself, and holds the two to each other. */
function settleBooks(model: Model, { partition }: Real, mayEvict: boolean): void {
  const evicted = new Set<ModelEntry>();
  for (const [key, entry] of [...model.entries]) {
    const value = partition.peek(key);
    if (value !== undefined) {
      assert.equal(value, entry.value, key);
      continue;
    }
    const why = partition.explain(key);
    assert.ok(why.state === 'departed' || why.state === 'refused', `${key} is ${why.state}`);
    if (why.state === 'departed' && why.reason === 'expired')
      assert.ok(entry.expiresAt <= model.now, `${key} expired early`);
    else {
      assert.ok(mayEvict && why.state === 'departed', `${key} left: ${JSON.stringify(why)}`);
      assert.ok(why.reason === 'evicted' || why.reason === 'quota', why.reason);
      assert.equal(entry.leases, 0, `${key} was evicted under a lease`);
      assert.deepEqual([why.uses, why.costMs, why.chargedBytes], [entry.uses, entry.costMs, entry.chargedBytes]);
      if (why.reason === 'evicted' && model.isLru) {
        evicted.add(entry);
        continue;
      }
    }
    model.drop(key);
  }
  model.evict(evicted);
  const stats = partition.stats();
  assert.deepEqual([...partition.keys()].toSorted(), [...model.entries.keys()].toSorted());
  assert.equal(stats.entries, model.entries.size);
  assert.equal(stats.usedBytes, model.usedBytes());
  assert.ok(stats.usedBytes <= BUDGET_BYTES, `${stats.usedBytes} bytes in use`);
  assert.deepEqual([stats.hits, stats.misses, stats.activeLeases], [model.hits, model.misses, model.leases.length]);
  assert.ok(Math.abs(stats.savedMs - model.savedMs) < 1e-6);
  const departed = Object.values(stats.departedBy).reduce((sum, each) => sum + each, 0);
  assert.equal(stats.insertions - departed, stats.entries);
  for (const { lease, entry } of model.leases) {
    assert.equal(lease.value, entry.value);
    assert.ok(!model.freed.has(entry.value), 'freed under a lease');
  }
  for (const { tenant, usedBytes, entries } of partition.tenantStats()) {
    const own = [...model.entries.values()].filter((entry) => entry.tenant === tenant);
    assert.deepEqual([usedBytes, entries], [own.reduce((sum, { chargedBytes }) => sum + chargedBytes, 0), own.length]);
    assert.ok(usedBytes <= TENANT_BYTES, `${tenant} has ${usedBytes} bytes`);
  }
}

function command(name: string, mayEvict: boolean, play: (model: Model, real: Real) => void): Command {
  return {
    check: () => true,
    run(model, real) {
      play(model, real);
      settleBooks(model, real, mayEvict);
    },
    toString: () => name,
  };
}

const keys = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'a key of more than the characters'.repeat(4));
const sizes = fc.oneof(fc.nat(100), fc.nat(900), fc.nat(4000));

function set(key: string, sizeBytes: number, costMs: number, extras: number): Command {
  return command(`set(${key}, ${sizeBytes} bytes, extras ${extras})`, true, (model, { partition }) => {
    const tags = extras % 2 === 1 ? [`t${extras % 3}`, 'all'] : undefined;
    const tenant = extras % 4 >= 2 ? `tenant ${extras % 5}` : undefined;
    const ttlMs = extras % 7 === 0 ? 30 : undefined;
    const value = box(`${key}#${model.made++}`);
    const overheadBytes = overheadOf(key, tags, tenant !== undefined);
    const entry: ModelEntry = {
      key,
      value,
      chargedBytes: sizeBytes + overheadBytes,
      overheadBytes,
      costMs,
      expiresAt: model.now + (ttlMs ?? TTL_MS),
      tags: tags ?? [],
      tenant,
      uses: 0,
      leases: 0,
      isHere: true,
    };
    const before = [...model.recency];
    const { evicted } = partition.stats().departedBy;
    model.drop(key);
    const kept = partition.set(key, value, { sizeBytes, costMs, tags, tenant, ...(ttlMs !== undefined && { ttlMs }) });
    assert.equal(kept, partition.peek(key) === value);
    if (!kept) {
      const why = partition.explain(key);
      assert.ok(why.state === 'refused' && why.chargedBytes === entry.chargedBytes, JSON.stringify(why));
      assert.equal(partition.stats().departedBy.evicted, evicted, 'evicted in vain');
      if (why.reason === 'too-large') assert.ok(entry.chargedBytes > BUDGET_BYTES);
      if (why.reason === 'budget') assert.ok(before.some(({ leases }) => leases > 0) || model.leases.length > 0);
      return;
    }
    model.entries.set(key, entry);
    model.newcomer = entry;
  });
}

const take = (key: string, isLease: boolean): Command =>
  command(`${isLease ? 'lease' : 'get'}(${key})`, false, (model, { partition }) => {
    const entry = model.use(key);
    if (!isLease) {
      assert.equal(partition.get(key), entry?.value);
      return;
    }
    const lease = partition.lease(key);
    assert.equal(lease?.value, entry?.value);
    if (lease === undefined || entry === undefined) return;
    entry.leases++;
    model.leases.push({ lease, entry });
  });

const release = (pick: number): Command =>
  command(`release(${pick})`, false, (model) => {
    const [held] = model.leases.splice(pick % Math.max(1, model.leases.length), 1);
    if (held === undefined) return;
    held.entry.leases--;
    held.lease.release();
    held.lease.release();
  });

const remove = (key: string): Command =>
  command(`delete(${key})`, false, (model, { partition }) => {
    assert.equal(partition.delete(key), model.entries.has(key));
    model.drop(key);
  });

const invalidate = (tag: string): Command =>
  command(`invalidateTag(${tag})`, false, (model, { partition }) => {
    const tagged = [...model.entries].filter(([, { tags }]) => tags.includes(tag));
    assert.equal(partition.invalidateTag(tag), tagged.length);
    for (const [key] of tagged) model.drop(key);
  });

const resize = (key: string, sizeBytes: number): Command =>
  command(`resize(${key}, ${sizeBytes})`, true, (model, { partition }) => {
    const entry = model.entries.get(key);
    // Growing past what can be evicted, or past a quota, is allowed to break the limit; elsewhere it is tested.
    if (entry === undefined || sizeBytes + entry.overheadBytes > entry.chargedBytes) return;
    partition.resize(key, sizeBytes);
    entry.chargedBytes = sizeBytes + entry.overheadBytes;
  });

const wait = (ms: number): Command =>
  command(`wait(${ms} ms)`, false, (model, { clock }) => {
    clock.advance(ms);
    model.now += ms;
  });

const commands = fc.commands(
  [
    fc.tuple(keys, sizes, fc.nat(50), fc.nat(40)).map((args) => set(...args)),
    fc.tuple(keys, sizes, fc.nat(50), fc.nat(40)).map((args) => set(...args)),
    keys.map((key) => take(key, false)),
    keys.map((key) => take(key, true)),
    fc.nat(20).map(release),
    keys.map(remove),
    fc.constantFrom('t0', 't1', 't2', 'all').map(invalidate),
    fc.tuple(keys, sizes).map((args) => resize(...args)),
    fc.nat(60).map(wait),
  ],
  { maxCommands: 40, size: 'max' },
);

describe('a heap partition against a plain model', () => {
  for (const policy of policyNames) {
    it(policy, () => {
      let run = 0;
      fc.assert(
        fc.property(commands, (sequence) => {
          const clock = new FakeClock();
          // Every other run asks an admission, too.
          const asksAdmission = ++run % 2 === 0;
          const model = new Model(policy === 'lru' && !asksAdmission);
          const partition = heapBoxes(
            {
              budgetBytes: BUDGET_BYTES,
              maxTenantBytes: TENANT_BYTES,
              ttlMs: TTL_MS,
              clock,
              free: (value) => {
                assert.ok(!model.freed.has(value), 'freed twice');
                model.freed.add(value);
              },
              ...(asksAdmission && { admission: (context) => createAdmission('tinylfu', context) }),
            },
            policy,
          );
          fc.modelRun(() => ({ model, real: { partition, clock } }), sequence);
          for (const { lease } of model.leases) lease.release();
          void partition.close();
          assert.deepEqual([partition.stats().usedBytes, partition.stats().activeLeases], [0, 0]);
          assert.equal(model.freed.size, model.made, 'everything that was made is freed');
        }),
        { numRuns: RUNS },
      );
    });
  }
});
