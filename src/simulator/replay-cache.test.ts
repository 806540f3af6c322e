import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { createAdmission, createPolicy, policyNames } from '../policies/registry.ts';
import { ReplayCache, type ReplayCounts } from './replay-cache.ts';
import { RequestBatch, UNKNOWN } from './request-batch.ts';

/** Requests as ids from the root on. */
function batchOf(
  requests: readonly (readonly number[])[],
  sizeOf: (id: number) => number = () => UNKNOWN,
): RequestBatch {
  const batch = new RequestBatch();
  for (const [at, ids] of requests.entries()) {
    for (const id of ids) batch.add(id, sizeOf(id), UNKNOWN);
    batch.endRequest(at);
  }
  return batch;
}

function cacheOf(budget: number, policy: string, unitSizes: boolean, admission?: string): ReplayCache {
  return new ReplayCache({
    budget,
    unitSizes,
    policy: (context) => createPolicy(policy, context),
    admission: admission === undefined ? undefined : (context) => createAdmission(admission, context),
    seed: 1,
  });
}

function replay(requests: readonly (readonly number[])[], budget: number): ReplayCounts {
  const cache = cacheOf(budget, 'lru', true);
  cache.replay(batchOf(requests));
  return cache.counts();
}

const chains = fc.array(fc.uniqueArray(fc.nat(40), { minLength: 1, maxLength: 6 }), { maxLength: 200, size: 'max' });

/** LRU in the plainest form, with the rules of chains as the documents have them. */
function plainHits(requests: readonly (readonly number[])[], budget: number): number {
  const recency: number[] = [];
  let hits = 0;
  for (const ids of requests) {
    const broken = ids.findIndex((id) => !recency.includes(id));
    hits += broken < 0 ? ids.length : broken;
    for (const id of ids.toReversed()) {
      const at = recency.indexOf(id);
      if (at >= 0) recency.splice(at, 1);
      recency.push(id);
      if (recency.length > budget) recency.shift();
    }
  }
  return hits;
}

describe('a replay', () => {
  it('of single entries counts what lies there', () => {
    const { references, hits } = replay([[1], [2], [1], [3], [2], [1]], 2);
    assert.deepEqual([references, hits], [6, 1]);
  });

  it('of chains counts the longest run from the start, and no further', () => {
    // The last request has its second block nowhere, so its third is of no use.
    const { references, hits } = replay(
      [
        [1, 2, 3],
        [1, 2, 4],
        [1, 9, 3],
      ],
      100,
    );
    assert.deepEqual([references, hits], [9, 3]);
  });

  it('of chains loses the end of a chain before its root', () => {
    assert.equal(replay([[1, 2, 3], [7], [1, 2, 3]], 3).hits, 2);
  });

  it('is what a plain LRU over chains does', () => {
    fc.assert(
      fc.property(chains, fc.integer({ min: 1, max: 60 }), (requests, budget) => {
        assert.equal(replay(requests, budget).hits, plainHits(requests, budget));
      }),
    );
  });

  it('is the same in one batch and in many', () => {
    fc.assert(
      fc.property(chains, fc.constantFrom(...policyNames), (requests, policy) => {
        const one = cacheOf(10, policy, true);
        one.replay(batchOf(requests));
        const many = cacheOf(10, policy, true);
        for (const request of requests) many.replay(batchOf([request]));
        assert.deepEqual(many.counts(), one.counts());
      }),
    );
  });

  it('keeps within its budget, whatever the sizes, with every policy and admission', () => {
    const requests = fc.array(fc.tuple(fc.nat(60), fc.integer({ min: 0, max: 300 })), { maxLength: 300, size: 'max' });
    const combinations = fc.tuple(
      fc.constantFrom(...policyNames),
      fc.constantFrom(undefined, 'always', 'tinylfu', 'second-hit'),
    );
    fc.assert(
      fc.property(requests, combinations, (sequence, [policy, admission]) => {
        const cache = cacheOf(250, policy, false, admission);
        for (const [id, size] of sequence) {
          cache.replay(batchOf([[id]], () => size));
          assert.ok(cache.used <= 250, `${cache.used} of 250`);
        }
        assert.equal(cache.counts().references, sequence.length);
      }),
    );
  });

  it('finds everything again after its table grew', () => {
    const ids = Array.from({ length: 5000 }, (_, at) => [at * 1024]);
    assert.equal(replay([...ids, ...ids], 5000).hits, 5000);
  });

  it('tells ids apart that differ beyond 32 bits', () => {
    const far = 2 ** 40;
    assert.equal(replay([[5], [5 + far], [5], [5 + far]], 10).hits, 2);
  });
});
