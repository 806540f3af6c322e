import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { isInferkvError } from '../base/errors.ts';
import { ComputeScheduler } from './compute-scheduler.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('the compute scheduler', () => {
  it('grants no more threads than there are cores, in the order in which they were asked for', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 8 }),
        fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 30 }),
        async (cores, wishes) => {
          const scheduler = new ComputeScheduler(cores);
          const order: number[] = [];
          await Promise.all(
            wishes.map(async (threads, at) => {
              await scheduler.acquire(threads);
              order.push(at);
              assert.ok(scheduler.grantedThreads <= cores);
              await turn();
              scheduler.release(threads);
            }),
          );
          assert.deepEqual(
            order,
            wishes.map((_, at) => at),
          );
          assert.equal(scheduler.grantedThreads, 0);
        },
      ),
      { numRuns: 50 },
    );
  });

  it('does not let one that needs all cores starve behind many that need one', async () => {
    const scheduler = new ComputeScheduler(2);
    await scheduler.acquire(1);
    const all = scheduler.acquire(2);
    assert.equal(scheduler.tryAcquire(1), false);
    scheduler.release(1);
    await all;
    assert.equal(scheduler.grantedThreads, 2);
  });

  it('lets a waiter give up, and those behind it move on', async () => {
    const scheduler = new ComputeScheduler(2);
    await scheduler.acquire(1);
    const leaver = new AbortController();
    const left = assert.rejects(scheduler.acquire(2, leaver.signal), (error) =>
      isInferkvError(error, 'ERR_INFERKV_ABORTED'),
    );
    const behind = scheduler.acquire(1);
    leaver.abort();
    await Promise.all([left, behind]);
    assert.equal(scheduler.grantedThreads, 2);
    await assert.rejects(scheduler.acquire(1, AbortSignal.abort()));
  });
});
