import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { createPolicy, policyNames } from '../policies/registry.ts';
import { boundsOf } from './bounds.ts';
import { ReferenceLog } from './reference-log.ts';
import { ReplayCache } from './replay-cache.ts';
import { costOf, RequestBatch, sizeOf } from './request-batch.ts';

interface Reference {
  readonly id: number;
  readonly size: number;
  readonly costMs: number;
}

function batchOf(references: readonly Reference[]): RequestBatch {
  const batch = new RequestBatch();
  for (const { id, size, costMs } of references) {
    batch.add(id, size, costMs);
    batch.endRequest(0);
  }
  return batch;
}

function logOf(batch: RequestBatch, limit = 1e6): ReferenceLog {
  const log = new ReferenceLog(limit);
  log.add(
    batch,
    (at) => sizeOf(batch, at),
    (at) => costOf(batch, at),
  );
  return log;
}

/** The most that any choice of what to keep brings, by trying all of them. */
function bestOfAll(references: readonly Reference[], budget: number, worth: (reference: Reference) => number): number {
  let states = new Map<string, number>([['', 0]]);
  for (const [now, reference] of references.entries()) {
    const next = new Map<string, number>();
    for (const [key, sum] of states) {
      const kept = key === '' ? [] : key.split(',').map(Number);
      const gained = sum + (kept.includes(reference.id) ? worth(reference) : 0);
      const others = kept.filter((id) => id !== reference.id);
      for (const choice of subsets([...others, reference.id])) {
        const bytes = choice.reduce((total, id) => total + sizeAt(references, now, id), 0);
        if (bytes > budget) continue;
        const name = choice.toSorted((a, b) => a - b).join(',');
        next.set(name, Math.max(next.get(name) ?? 0, gained));
      }
    }
    states = next;
  }
  return Math.max(...states.values());
}

function sizeAt(references: readonly Reference[], now: number, id: number): number {
  return references.slice(0, now + 1).findLast((reference) => reference.id === id)?.size ?? 0;
}

function subsets(ids: readonly number[]): readonly (readonly number[])[] {
  return Array.from({ length: 2 ** ids.length }, (_, bits) => ids.filter((_id, at) => (bits >> at) % 2 === 1));
}

const references = (maxSize: number): fc.Arbitrary<readonly Reference[]> =>
  fc.array(
    fc.record({ id: fc.nat(4), size: fc.integer({ min: 1, max: maxSize }), costMs: fc.integer({ min: 1, max: 9 }) }),
    { minLength: 1, maxLength: 12 },
  );

describe('the bound', () => {
  it('is the optimum where all entries are of one size', () => {
    fc.assert(
      fc.property(references(1), fc.integer({ min: 1, max: 4 }), (sequence, budget) => {
        const { kind, bounds } = boundsOf(logOf(batchOf(sequence)), [budget]);
        assert.equal(kind, 'exact');
        assert.equal(
          bounds[0]?.hits,
          bestOfAll(sequence, budget, () => 1),
        );
      }),
    );
  });

  it('is not exceeded by any choice where sizes and costs differ', () => {
    fc.assert(
      fc.property(references(5), fc.integer({ min: 1, max: 12 }), (sequence, budget) => {
        const { bounds } = boundsOf(logOf(batchOf(sequence)), [budget]);
        const [bound] = bounds;
        const slack = 1e-9;
        assert.ok((bound?.hits ?? 0) + slack >= bestOfAll(sequence, budget, () => 1));
        if (bound?.hitBytes === undefined || bound.savedMs === undefined) return;
        assert.ok(bound.hitBytes + slack >= bestOfAll(sequence, budget, ({ size }) => size));
        assert.ok(bound.savedMs + slack >= bestOfAll(sequence, budget, ({ costMs }) => costMs));
      }),
    );
  });

  it('is not exceeded by any policy', () => {
    const many = fc.array(
      fc.record({ id: fc.nat(60), size: fc.integer({ min: 1, max: 50 }), costMs: fc.integer({ min: 1, max: 9 }) }),
      { minLength: 1, maxLength: 400, size: 'max' },
    );
    fc.assert(
      fc.property(many, fc.integer({ min: 20, max: 800 }), (sequence, budget) => {
        const batch = batchOf(sequence);
        const [bound] = boundsOf(logOf(batch), [budget]).bounds;
        for (const name of policyNames) {
          const cache = new ReplayCache({
            budget,
            unitSizes: false,
            policy: (context) => createPolicy(name, context),
            seed: 1,
          });
          cache.replay(batch);
          assert.ok(cache.counts().hits <= (bound?.hits ?? 0) + 1e-9, name);
        }
      }),
    );
  });

  it('is left out when the trace is longer than the log may be', () => {
    const log = logOf(batchOf([1, 2, 3, 4].map((id) => ({ id, size: 1, costMs: 1 }))), 3);
    assert.equal(log.isFull, true);
    assert.deepEqual(boundsOf(log, [10]), { kind: undefined, bounds: [] });
  });
});
