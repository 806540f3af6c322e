import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { FakeClock } from '../base/clock.ts';
import type { Tensors } from '../base/tensor.ts';
import { ComputeScheduler } from './compute-scheduler.ts';
import { WorkerSession, type WorkerSessionOptions } from './worker-session.ts';
import { rejects } from '../../test/support/rejects.ts';

const options: WorkerSessionOptions = {
  entry: new URL('../../test/fixtures/misbehaving-worker.ts', import.meta.url),
  artifact: { digest: 'd', path: 'none', sizeBytes: 1, files: [] },
  threads: 1,
  workers: 1,
  maxQueue: 100,
  engine: {},
  sizeBytes: (runBytes) => 1000 + runBytes,
};

const saying = (text: string): Tensors => ({ x: { type: 'string', shape: [1], data: [text] } });

describe('a session in worker threads', () => {
  for (const [what, text, says] of [
    ['exits', 'exit', /ended with code 3/],
    ['throws', 'throw', /thrown in the worker/],
    ['throws when nobody calls it', 'throwLater', /thrown in the worker/],
    ['runs out of memory', 'outOfMemory', /memory/],
  ] as const) {
    it(`loses the run of a worker that ${what}, and comes back for the next`, async () => {
      await using session = await WorkerSession.open({ ...options, resourceLimits: { maxOldGenerationSizeMb: 24 } });
      await session.run(saying('hello'));
      const lost = rejects(session.run(saying(text)), 'ERR_INFERKV_WORKER_LOST', says);
      const waiting = session.run(saying('waiting behind it'));
      await lost;
      assert.deepEqual((await waiting).outputs['y']?.data, ['waiting behind it']);
    });
  }

  it('loses only the runs of that worker', async () => {
    await using session = await WorkerSession.open({ ...options, workers: 2 });
    const [lost, kept] = [session.run(saying('exit')), session.run(saying('kept'))];
    await rejects(lost, 'ERR_INFERKV_WORKER_LOST', /ended/);
    assert.deepEqual((await kept).outputs['y']?.data, ['kept']);
  });

  it('fails alone where the run fails', async () => {
    await using session = await WorkerSession.open(options);
    await rejects(session.run(saying('fail')), 'ERR_INFERKV_ENGINE_FAILED', /as it was told/);
    await session.run(saying('hello'));
  });

  it('does not open where the model is refused, or nobody wants it any more', async () => {
    await rejects(
      WorkerSession.open({ ...options, engine: { refuse: true } }),
      'ERR_INFERKV_ARTIFACT_INVALID',
      /refused/,
    );
    await rejects(WorkerSession.open(options, AbortSignal.abort()), 'ERR_INFERKV_ABORTED', /gave up/);
  });

  it('ends a wait at its deadline, by the clock it is given', async () => {
    const scheduler = new ComputeScheduler(1);
    const clock = new FakeClock();
    await using session = await WorkerSession.open({ ...options, scheduler, clock });
    await scheduler.acquire(1);
    const first = rejects(session.run(saying('never runs'), { deadlineMs: 50 }), 'ERR_INFERKV_DEADLINE', /50 ms/);
    const second = session.run(saying('runs'), { deadlineMs: 51 });
    clock.advance(50);
    await first;
    scheduler.release(1);
    assert.deepEqual((await second).outputs['y']?.data, ['runs']);
  });

  it('never has more threads at work than there are cores, over all sessions', async () => {
    class Watched extends ComputeScheduler {
      most = 0;
      override async acquire(threads: number, signal?: AbortSignal): Promise<void> {
        await super.acquire(threads, signal);
        this.most = Math.max(this.most, this.grantedThreads);
      }
    }
    const scheduler = new Watched(3);
    await using one = await WorkerSession.open({ ...options, scheduler, threads: 2, workers: 2 });
    await using two = await WorkerSession.open({ ...options, scheduler, threads: 3 });
    const runs = Array.from({ length: 60 }, (_, at) => (at % 3 === 0 ? two : one).run(saying(`run ${at}`)));
    for (const [at, { outputs }] of (await Promise.all(runs)).entries())
      assert.deepEqual(outputs['y']?.data, [`run ${at}`]);
    assert.equal(scheduler.most, 3);
    assert.equal(scheduler.grantedThreads, 0);
  });
});
