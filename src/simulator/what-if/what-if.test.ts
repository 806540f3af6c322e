import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { createRandom } from '../../base/random.ts';
import { createPolicy, policyNames } from '../../policies/registry.ts';
import { ReplayCache } from '../replay-cache.ts';
import { RequestBatch } from '../request-batch.ts';
import { createWhatIf, type WhatIf, type WhatIfOptions } from './what-if.ts';

/** Policies that decide by slots alone; a sketch of identities meets other strangers under every seed. */
const exactPolicies = policyNames.filter((name) => name !== 'w-tinylfu');

type Request = readonly number[];

function use(whatIf: WhatIf, request: Request, sizeOf = (_id: number): number => 1): void {
  const [id = 0] = request;
  if (request.length !== 1) whatIf.usedChain([], request, sizeOf(id), sizeOf(id));
  else if (whatIf.wants(id)) whatIf.used('', id, sizeOf(id), sizeOf(id));
}

function whatIfOf(requests: readonly Request[], options: Partial<WhatIfOptions> = {}): WhatIf {
  const whatIf = createWhatIf({ budgets: [500], policies: ['lru'], seed: 1, replay: 'inline', ...options });
  for (const request of requests) use(whatIf, request);
  return whatIf;
}

/** Requests for single entries whose popularity falls with their rank. */
function popular(keys: number, length: number, seed: number): readonly Request[] {
  const random = createRandom(seed);
  return Array.from({ length }, () => [Math.imul(Math.floor(keys ** random.next()), 0x9e3779b1)]);
}

function fullReplay(requests: readonly Request[], policy: string, budget: number, sizeOf = (_id: number): number => 1) {
  const batch = new RequestBatch();
  for (const ids of requests) {
    for (const id of ids) batch.add(id >>> 0, sizeOf(ids[0] ?? 0), sizeOf(ids[0] ?? 0));
    batch.endRequest(0);
  }
  const cache = new ReplayCache({ budget, unitSizes: false, policy: (to) => createPolicy(policy, to), seed: 1 });
  cache.replay(batch);
  return cache.counts();
}

describe('the what-if', () => {
  it('is the full replay while every key is in the sample', async () => {
    const request = fc.array(fc.nat(60), { minLength: 1, maxLength: 6 }).map((ids) => [...new Set(ids)]);
    const sizeOf = (id: number): number => 1 + (id % 7);
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 200 }), fc.integer(), async (requests, seed) => {
        const budgets = [5, 40, 1000];
        const whatIf = createWhatIf({ budgets, policies: exactPolicies, seed, replay: 'inline' });
        for (const each of requests) use(whatIf, each, sizeOf);
        for (const { policy, budgetBytes, hitRate, byteHitRate, costSavedRate, rate } of await whatIf.estimates()) {
          const full = fullReplay(requests, policy, budgetBytes, sizeOf);
          assert.deepEqual(
            [hitRate, byteHitRate, costSavedRate, rate],
            [full.hits / full.references, full.hitBytes / full.bytes, full.savedMs / full.costMs, 1],
            `${policy} ${budgetBytes}`,
          );
        }
      }),
      { numRuns: 100 },
    );
  });

  it('comes near the full replay by a sample, for popular keys and for every policy', async () => {
    const requests = popular(50_000, 300_000, 3);
    const whatIf = whatIfOf(requests, { budgets: [2000, 10_000], policies: policyNames });
    for (const { policy, budgetBytes, hitRate, rate, trackedKeys } of await whatIf.estimates()) {
      const full = fullReplay(requests, policy, budgetBytes);
      const error = 100 * (hitRate - full.hits / full.references);
      assert.ok(Math.abs(error) < 3, `${policy} ${budgetBytes}: ${error} points`);
      assert.ok(rate < 0.2 && trackedKeys >= 2000, `${rate} ${trackedKeys}`);
    }
  });

  it('counts chains by the longest run, though only some blocks are in the sample', async () => {
    const random = createRandom(7);
    // One block opens all, as a system prompt does; conversations grow and come back.
    const turns = new Map<number, number>();
    const requests = Array.from({ length: 6000 }, () => {
      const conversation = random.below(600);
      const length = 1 + (turns.get(conversation) ?? random.below(8));
      turns.set(conversation, length % 40);
      return [0xffff, ...Array.from({ length }, (_, at) => conversation * 100 + at)];
    });
    const whatIf = whatIfOf(requests, {
      budgets: [3000, 8000],
      policies: ['lru', 'arc', 'sieve'],
      minTrackedKeys: 1000,
    });
    for (const { policy, budgetBytes, hitRate, rate } of await whatIf.estimates()) {
      const full = fullReplay(requests, policy, budgetBytes);
      const error = 100 * (hitRate - full.hits / full.references);
      assert.ok(rate < 0.2, String(rate));
      assert.ok(Math.abs(error) < 5, `${policy} ${budgetBytes}: ${error} points`);
    }
  });

  it('says the same for the same seed, and samples other keys for another', async () => {
    const requests = popular(20_000, 60_000, 5);
    const estimates = (seed: number) => whatIfOf(requests, { seed }).estimates();
    assert.deepEqual(await estimates(1), await estimates(1));
    assert.notDeepEqual(await estimates(1), await estimates(2));
  });

  it('holds a bounded number of keys, however many come', async () => {
    const whatIf = createWhatIf({
      budgets: [200, 1e9],
      policies: ['lru', 's3-fifo'],
      seed: 4,
      minTrackedKeys: 100,
      replay: 'inline',
    });
    for (let id = 0; id < 400_000; id++) {
      use(whatIf, [Math.imul(id, 0x9e3779b1)]);
      if (id % 50_000 !== 0) continue;
      for (const { trackedKeys } of await whatIf.estimates()) assert.ok(trackedKeys <= 600, String(trackedKeys));
    }
    // A hundred tracked keys tell the number of misses to a tenth.
    for (const { hitRate } of await whatIf.estimates()) assert.ok(hitRate < 0.2, String(hitRate));
  });

  it('takes more keys in when there are fewer of them', async () => {
    const whatIf = whatIfOf(popular(50_000, 200_000, 3));
    const before = (await whatIf.estimates())[0]?.rate ?? 1;
    const few = popular(1000, 50_000, 9);
    for (let round = 0; round < 70; round++) for (const request of few) use(whatIf, request);
    assert.ok(((await whatIf.estimates())[0]?.rate ?? 0) > 2 * before);
    whatIf.reset();
    for (const request of few) use(whatIf, request);
    const full = fullReplay([...few, ...few], 'lru', 500);
    const error = 100 * (((await whatIf.estimates())[0]?.hitRate ?? 0) - full.hits / full.references);
    assert.ok(Math.abs(error) < 5, `${error} points`);
  });

  it('begins to count anew without forgetting what the shadows hold', async () => {
    const whatIf = whatIfOf([[1], [2], [3]]);
    assert.equal((await whatIf.estimates())[0]?.hitRate, 0);
    whatIf.reset();
    assert.ok(Number.isNaN((await whatIf.estimates())[0]?.hitRate));
    use(whatIf, [2]);
    assert.equal((await whatIf.estimates())[0]?.hitRate, 1);
  });

  it('refuses what makes no sense', () => {
    const cases: readonly [Partial<WhatIfOptions>, RegExp][] = [
      [{ budgets: [] }, /a budget and a policy/],
      [{ policies: [] }, /a budget and a policy/],
      [{ budgets: [0] }, /a budget of 0 holds nothing/],
      [{ budgets: [Number.NaN] }, /NaN/],
      [{ minTrackedKeys: 3 }, /minTrackedKeys/],
      [{ budgets: Array.from({ length: 65 }, (_, at) => at + 1) }, /64 pairs/],
    ];
    for (const [options, says] of cases) {
      assert.throws(() => whatIfOf([], options), { code: 'ERR_INFERKV_CONFIG_INVALID', message: says });
    }
    assert.throws(() => whatIfOf([], { policies: ['mru'] }), { code: 'ERR_INFERKV_POLICY_UNKNOWN' });
  });
});
