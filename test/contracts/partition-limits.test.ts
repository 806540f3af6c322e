import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { FakeClock } from '../../src/base/clock.ts';
import { isInferkvError } from '../../src/base/errors.ts';
import { REMEMBERED_DEPARTURES } from '../../src/cache/departures.ts';
import { ENTRY_OVERHEAD_BYTES, EXTRAS_OVERHEAD_BYTES, TAG_OVERHEAD_BYTES } from '../../src/cache/entry-facts.ts';
import { createAdmission, policyNames } from '../../src/policies/registry.ts';
import { rejects } from '../support/rejects.ts';
import { heapBoxes } from '../support/heap-boxes.ts';
import { box, loaded } from './partition.ts';

const facts = { sizeBytes: 10, costMs: 1 };
const ENTRY_BYTES = 10 + ENTRY_OVERHEAD_BYTES;
/** Of an entry that belongs to a tenant. */
const TENANT_ENTRY_BYTES = ENTRY_BYTES + EXTRAS_OVERHEAD_BYTES;

/** A clock that tells how many timers there are. */
class TimedClock extends FakeClock {
  timers = 0;

  override after(delayMs: number, callback: () => void): { cancel(): void } {
    this.timers++;
    let isOver = false;
    const end = (): void => {
      if (!isOver) this.timers--;
      isOver = true;
    };
    const timer = super.after(delayMs, () => {
      end();
      callback();
    });
    return {
      cancel: () => {
        end();
        timer.cancel();
      },
    };
  }
}

describe('accounting of a heap partition', () => {
  it('charges key, tags and tenant with the value', () => {
    const partition = heapBoxes({ budgetBytes: 100_000 });
    const charged = (): number => {
      const { usedBytes } = partition.stats();
      for (const key of [...partition.keys()]) partition.delete(key);
      return usedBytes;
    };
    partition.set('k', box(''), facts);
    assert.equal(charged(), ENTRY_BYTES);
    partition.set('k'.repeat(100), box(''), facts);
    assert.equal(charged(), ENTRY_BYTES + 2 * 4);
    partition.set('k', box(''), { ...facts, tags: ['x', 'y'] });
    assert.equal(charged(), ENTRY_BYTES + EXTRAS_OVERHEAD_BYTES + 2 * TAG_OVERHEAD_BYTES);
    partition.set('k', box(''), { ...facts, tenant: 'alice' });
    assert.equal(charged(), TENANT_ENTRY_BYTES);
    assert.equal(charged(), 0);
  });

  it('says at once that a reservation is above what one entry may take', async () => {
    const partition = heapBoxes({ budgetBytes: 100_000, maxEntryBytes: 50 });
    let loads = 0;
    const load = async (): Promise<ReturnType<typeof loaded>> => {
      loads++;
      return loaded('1', 20);
    };
    await rejects(partition.fetch('a', load, { reserveBytes: 51 }), 'ERR_INFERKV_BUDGET_EXCEEDED');
    assert.equal(loads, 0);
    (await partition.fetch('a', load, { reserveBytes: 50 })).lease.release();
    assert.equal(partition.stats().entries, 1);
  });
});

describe('expired entries', () => {
  it('are swept in the background without anybody asking', () => {
    const clock = new FakeClock();
    const freed: string[] = [];
    const partition = heapBoxes({ budgetBytes: 1e6, ttlMs: 100, clock, free: ({ text }) => void freed.push(text) });
    for (let at = 0; at < 500; at++) partition.set(`k${at}`, box(`k${at}`), facts);
    partition.set('stays', box('stays'), { ...facts, ttlMs: Number.POSITIVE_INFINITY });
    clock.advance(99);
    assert.equal(partition.stats().entries, 501);
    clock.advance(1000);
    const { entries, expirations, usedBytes } = partition.stats();
    assert.deepEqual([entries, expirations, usedBytes, freed.length], [1, 500, ENTRY_BYTES, 500]);
  });

  it('are swept in bounded steps, all within a minute or so', () => {
    const clock = new FakeClock();
    const partition = heapBoxes({ budgetBytes: 1e9, ttlMs: 100, clock });
    const COUNT = 200_000;
    for (let at = 0; at < COUNT; at++) partition.set(`k${at}`, box(''), facts);
    let most = 0;
    let before = partition.stats().entries;
    for (let ms = 0; ms < 70_000; ms += 10) {
      clock.advance(10);
      const { entries } = partition.stats();
      most = Math.max(most, before - entries);
      before = entries;
    }
    assert.equal(before, 0);
    assert.ok(most <= 1024, `${most} in one step`);
  });

  it('need no timer while there are none, and none after the end', async () => {
    const clock = new TimedClock();
    const partition = heapBoxes({ budgetBytes: 1e6, clock });
    partition.set('a', box('a'), facts);
    clock.advance(10);
    assert.equal(clock.timers, 0);
    partition.set('b', box('b'), { ...facts, ttlMs: 50 });
    assert.ok(clock.timers > 0);
    clock.advance(5000);
    assert.equal(partition.stats().entries, 1);
    assert.equal(clock.timers, 0);
    partition.set('c', box('c'), { ...facts, ttlMs: 1e6 });
    await partition.close();
    clock.advance(1);
    assert.equal(clock.timers, 0);
  });

  it('stay readable to who leases them when the sweep comes by', () => {
    const clock = new FakeClock();
    const partition = heapBoxes({ budgetBytes: 1e6, ttlMs: 100, clock });
    partition.set('a', box('a'), facts);
    using lease = partition.lease('a');
    clock.advance(5000);
    assert.deepEqual([partition.stats().entries, partition.stats().usedBytes], [0, ENTRY_BYTES]);
    assert.equal(lease?.value.text, 'a');
    lease?.release();
    assert.equal(partition.stats().usedBytes, 0);
  });

  it('are no later than a millisecond, and never early', () => {
    const clock = new FakeClock();
    const partition = heapBoxes({ budgetBytes: 1e6, ttlMs: 10, clock });
    partition.get('start the coarse clock');
    clock.advance(0.9);
    partition.set('a', box('a'), facts);
    clock.advance(9.9);
    assert.equal(partition.get('a')?.text, 'a');
    clock.advance(1.1);
    assert.equal(partition.get('a'), undefined);
  });
});

describe('quotas of tenants', () => {
  for (const policy of policyNames) {
    it(`make a tenant evict its own entries, never others', by ${policy}`, () => {
      const partition = heapBoxes(
        {
          budgetBytes: 100 * TENANT_ENTRY_BYTES,
          maxTenantBytes: 5 * TENANT_ENTRY_BYTES,
          quotas: { big: 50 * TENANT_ENTRY_BYTES },
        },
        policy,
      );
      for (let at = 0; at < 5; at++) partition.set(`alice${at}`, box(''), { ...facts, tenant: 'alice' });
      for (let at = 0; at < 60; at++) partition.set(`nobody${at % 20}`, box(''), facts);
      for (let at = 0; at < 200; at++) {
        partition.set(`bob${at}`, box(''), { ...facts, tenant: 'bob' });
        partition.get(`bob${at - 1}`);
        partition.set(`big${at}`, box(''), { ...facts, tenant: 'big' });
      }
      const stats = Object.fromEntries(partition.tenantStats().map((each) => [each.tenant, each]));
      assert.deepEqual([stats['alice']?.entries, stats['bob']?.entries, stats['big']?.entries], [5, 5, 50]);
      assert.deepEqual([stats['alice']?.evictions, stats['bob']?.evictions, stats['big']?.evictions], [0, 195, 150]);
      assert.equal(stats['bob']?.usedBytes, 5 * TENANT_ENTRY_BYTES);
      assert.equal(partition.stats().departedBy.quota, 345);
      assert.equal(partition.stats().departedBy.evicted, 0);
      assert.equal(partition.stats().entries, 80);
    });
  }

  it('choose among a tenant’s entries as the policy would', () => {
    const partition = heapBoxes({ budgetBytes: 100 * TENANT_ENTRY_BYTES, maxTenantBytes: 3 * TENANT_ENTRY_BYTES });
    const own = { ...facts, tenant: 'alice' };
    for (const key of ['a', 'b', 'c']) partition.set(key, box(key), own);
    partition.get('a');
    partition.set('d', box('d'), own);
    assert.deepEqual([...partition.keys()].toSorted(), ['a', 'c', 'd']);
    const why = partition.explain('b');
    assert.ok(why.state === 'departed');
    assert.deepEqual([why.reason, why.policy, why.neededBytes], ['quota', 'lru', TENANT_ENTRY_BYTES]);
  });

  it('refuse what is above them, and what only leased entries could make room for', () => {
    const partition = heapBoxes({ budgetBytes: 100 * TENANT_ENTRY_BYTES, maxTenantBytes: 2 * TENANT_ENTRY_BYTES });
    const own = { ...facts, tenant: 'alice' };
    assert.equal(partition.set('large', box(''), { ...own, sizeBytes: 2 * TENANT_ENTRY_BYTES }), false);
    const why = partition.explain('large');
    assert.ok(why.state === 'refused' && why.reason === 'quota' && why.limitBytes === 2 * TENANT_ENTRY_BYTES);
    partition.set('a', box('a'), own);
    partition.set('b', box('b'), own);
    using _a = partition.lease('a');
    using _b = partition.lease('b');
    assert.equal(partition.set('c', box('c'), own), false);
    assert.equal(partition.set('c', box('c'), { ...facts, tenant: 'bob' }), true);
    assert.equal(partition.stats().refusedBy.quota, 2);
    assert.equal(partition.tenantStats().find(({ tenant }) => tenant === 'alice')?.refusals, 2);
  });

  it('keep books of many tenants without keeping those of all that ever were', () => {
    const partition = heapBoxes({ budgetBytes: 10 * TENANT_ENTRY_BYTES, maxTenantBytes: 5 * TENANT_ENTRY_BYTES });
    for (let at = 0; at < 5000; at++) {
      partition.set(`k${at}`, box(''), { ...facts, tenant: `tenant ${at}` });
      partition.set('large', box(''), { ...facts, sizeBytes: 1e6, tenant: `refused ${at}` });
    }
    assert.equal(partition.stats().entries, 10);
    const known = partition.tenantStats(1e6);
    assert.ok(known.length <= 1024 + 10, `${known.length} accounts`);
    assert.equal(known.filter(({ entries }) => entries > 0).length, 10);
  });
});

describe('statistics of a heap partition', () => {
  it('tell of tags and tenants, the largest first', () => {
    const partition = heapBoxes({ budgetBytes: 1e6 });
    for (let at = 0; at < 6; at++) {
      partition.set(`k${at}`, box(''), {
        sizeBytes: at,
        costMs: 2,
        tags: ['all', `t${at % 2}`],
        tenant: at < 4 ? 'a' : 'b',
      });
      partition.get(`k${at}`);
    }
    partition.delete('k0');
    assert.deepEqual(
      partition.tagStats().map(({ tag, entries, hits, savedMs }) => [tag, entries, hits, savedMs]),
      [
        ['all', 5, 5, 10],
        ['t1', 3, 3, 6],
        ['t0', 2, 2, 4],
      ],
    );
    assert.equal(partition.tagStats(1).length, 1);
    assert.deepEqual(
      partition.tenantStats().map(({ tenant, entries, hits, savedMs }) => [tenant, entries, hits, savedMs]),
      [
        ['a', 3, 4, 8],
        ['b', 2, 2, 4],
      ],
    );
    assert.equal(partition.tenantStats()[0]?.quotaBytes, Number.POSITIVE_INFINITY);
  });

  it('count departures and refusals by reason', () => {
    const clock = new FakeClock();
    const partition = heapBoxes({ budgetBytes: 2 * ENTRY_BYTES, clock });
    partition.set('a', box(''), facts);
    partition.set('a', box(''), facts);
    partition.set('b', box(''), facts);
    partition.set('c', box(''), facts);
    partition.delete('c');
    partition.set('d', box(''), { ...facts, ttlMs: 5 });
    clock.advance(10);
    partition.get('d');
    partition.set('huge', box(''), { ...facts, sizeBytes: 1e6 });
    const { departedBy, refusedBy, evictions, expirations, refusals } = partition.stats();
    assert.deepEqual(departedBy, {
      evicted: 1,
      quota: 0,
      expired: 1,
      deleted: 1,
      invalidated: 0,
      replaced: 1,
      closed: 0,
    });
    assert.deepEqual(refusedBy, { 'too-large': 1, budget: 0, admission: 0, quota: 0, closed: 0, superseded: 0 });
    assert.deepEqual([evictions, expirations, refusals], [1, 1, 1]);
  });

  it('remember a bounded number of departures, the latest', () => {
    const partition = heapBoxes({ budgetBytes: ENTRY_BYTES });
    const COUNT = REMEMBERED_DEPARTURES + 500;
    for (let at = 0; at <= COUNT; at++) partition.set(`k${at}`, box(''), facts);
    assert.deepEqual(partition.explain('k499'), { state: 'unknown', key: 'k499', remembered: REMEMBERED_DEPARTURES });
    assert.equal(partition.explain('k500').state, 'departed');
    assert.equal(partition.explain(`k${COUNT - 1}`).state, 'departed');
    assert.equal(partition.explain(`k${COUNT}`).state, 'present');
  });
});

describe('an admission', () => {
  it('keeps what was asked for once from displacing what is asked for often', () => {
    const partition = heapBoxes({
      budgetBytes: 10 * ENTRY_BYTES,
      admission: (context) => createAdmission('tinylfu', context),
    });
    const ask = (key: string): void => {
      if (partition.get(key) === undefined) partition.set(key, box(key), facts);
    };
    for (let round = 0; round < 20; round++) for (let at = 0; at < 10; at++) ask(`hot${at}`);
    const before = partition.stats().hits;
    for (let at = 0; at < 1000; at++) {
      ask(`once${at}`);
      ask(`hot${at % 10}`);
    }
    // LRU alone would keep none of them: each is followed by nineteen others before it is asked for again.
    assert.ok(partition.stats().hits - before > 700, `${partition.stats().hits - before} hits`);
    assert.ok(partition.stats().refusedBy.admission > 700);
    const refused = Array.from({ length: 1000 }, (_, at) => partition.explain(`once${at}`)).find(
      ({ state }) => state === 'refused',
    );
    assert.ok(refused?.state === 'refused' && refused.reason === 'admission');
  });

  it('is not asked while there is room, and hears of every request', () => {
    const heard: number[] = [];
    let asked = 0;
    const partition = heapBoxes({
      budgetBytes: 3 * ENTRY_BYTES,
      admission: () => ({
        name: 'never',
        record: (identity) => void heard.push(identity),
        admits: () => {
          asked++;
          return false;
        },
      }),
    });
    for (const key of ['a', 'b', 'c']) {
      partition.get(key);
      assert.equal(partition.set(key, box(key), facts), true);
    }
    assert.deepEqual([heard.length, asked], [3, 0]);
    partition.get('a');
    assert.equal(heard[3], heard[0]);
    assert.equal(partition.set('d', box('d'), facts), false);
    assert.equal(asked, 1);
    assert.deepEqual([...partition.keys()].toSorted(), ['a', 'b', 'c']);
  });
});

it('a partition of an unknown policy says which there are', () => {
  assert.throws(
    () => heapBoxes({ budgetBytes: 1000 }, 'mru'),
    (error) => isInferkvError(error, 'ERR_INFERKV_POLICY_UNKNOWN'),
  );
});
