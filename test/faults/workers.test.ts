import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { FakeClock } from '../../src/base/clock.ts';
import { isInferkvError } from '../../src/base/errors.ts';
import { createRandom } from '../../src/base/random.ts';
import type { Tensors } from '../../src/base/tensor.ts';
import { ComputeScheduler } from '../../src/engines/compute-scheduler.ts';
import { WorkerSession } from '../../src/engines/worker-session.ts';

const RUNS = 150;
const EXPECTED = new Set([
  'ERR_INFERKV_ABORTED',
  'ERR_INFERKV_DEADLINE',
  'ERR_INFERKV_ENGINE_FAILED',
  'ERR_INFERKV_OVERLOADED',
  'ERR_INFERKV_WORKER_LOST',
]);

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const saying = (text: string): Tensors => ({ x: { type: 'string', shape: [1], data: [text] } });

/** Two sessions whose workers fail, throw and die, under callers that give up: everything is answered, nothing is left over. */
async function live(seed: number): Promise<void> {
  const random = createRandom(seed);
  const clock = new FakeClock();
  const scheduler = new ComputeScheduler(2);
  const open = (threads: number, workers: number): Promise<WorkerSession> =>
    WorkerSession.open({
      entry: new URL('../fixtures/misbehaving-worker.ts', import.meta.url),
      artifact: { digest: 'd', path: 'none', sizeBytes: 1, files: [] },
      threads,
      workers,
      maxQueue: 40,
      engine: {},
      sizeBytes: () => 1000,
      scheduler,
      clock,
    });
  const sessions = await Promise.all([open(2, 1), open(1, 2)]);
  const answered: Promise<void>[] = [];
  for (let run = 0; run < RUNS; run++) {
    const kind = random.below(12);
    const text = ['fail', 'exit', 'throw', 'throwLater'][kind] ?? `run ${run}`;
    const caller = new AbortController();
    const deadlineMs = random.below(4) === 0 ? random.below(20) : undefined;
    const session = sessions[random.below(2)] as WorkerSession;
    answered.push(
      session.run(saying(text), { signal: caller.signal, deadlineMs }).then(
        ({ outputs }) => assert.deepEqual(outputs['y']?.data, [text]),
        (error: unknown) => assert.ok(isInferkvError(error) && EXPECTED.has(error.code), String(error)),
      ),
    );
    if (random.below(6) === 0) caller.abort();
    if (random.below(5) === 0) clock.advance(random.below(10));
    if (random.below(2) === 0) await turn();
  }
  await Promise.all(answered);
  // However badly it went, the next run is answered.
  for (const session of sessions) await session.run(saying('still there'));
  await Promise.all(sessions.map((session) => session.close()));
  assert.equal(scheduler.grantedThreads, 0);
}

describe('workers under fire', { timeout: 120_000 }, () => {
  for (let seed = 1; seed <= 8; seed++) it(`seed ${seed}`, () => live(seed));
});
