import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { FakeClock } from '../base/clock.ts';
import { InferkvError } from '../base/errors.ts';
import { tensor, type Tensors } from '../base/tensor.ts';
import { rejects } from '../../test/support/rejects.ts';
import { BatchingSession, type BatchingOptions } from './batching-session.ts';
import type { RunOptions, RunResult, Session, SessionMetadata } from './engine.ts';

const METADATA: SessionMetadata = {
  inputs: [{ name: 'x', type: 'float32', shape: ['N', ''] }],
  outputs: [
    { name: 'double', type: 'float32', shape: ['N', ''] },
    { name: 'sum', type: 'float32', shape: ['N'] },
  ],
};

/** Doubles every element and sums every row; remembers how many rows each run had, and waits where the test says so. */
class RowSession implements Session {
  readonly metadata: SessionMetadata;
  readonly sizeBytes = 1;
  readonly runs: number[] = [];
  gate: Promise<void> = Promise.resolve();
  /** Fails a run that has such an element. */
  poison: number | undefined;
  /** Leaves rows out, as a model would whose first dimension is no batch. */
  folds = false;
  closed = false;

  constructor(metadata: SessionMetadata = METADATA) {
    this.metadata = metadata;
  }

  async run({ x }: Tensors, { outputs = ['double', 'sum'] }: RunOptions = {}): Promise<RunResult> {
    const [rows = 0, width = 0] = x?.shape ?? [];
    const data = Float32Array.from(x?.data as Float32Array);
    this.runs.push(rows);
    await this.gate;
    if (this.poison !== undefined && data.includes(this.poison)) {
      throw new InferkvError('ERR_INFERKV_ENGINE_FAILED', 'Poison.');
    }
    const kept = this.folds ? 1 : rows;
    const sums = Float32Array.from({ length: kept }, (_, row) =>
      data.subarray(row * width, (row + 1) * width).reduce((sum, each) => sum + each, 0),
    );
    const all: Tensors = {
      double: tensor(
        data.subarray(0, kept * width).map((each) => 2 * each),
        [kept, width],
      ),
      sum: tensor(sums, [kept]),
    };
    return {
      outputs: Object.fromEntries(outputs.map((name) => [name, all[name] as Tensors[string]])),
      computeMs: 10 * rows,
    };
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function batching(options: Partial<BatchingOptions & { readonly maxQueue: number }> = {}): {
  readonly inner: RowSession;
  readonly session: BatchingSession;
  readonly clock: FakeClock;
} {
  const inner = new RowSession();
  const clock = new FakeClock();
  const session = new BatchingSession(inner, { maxSize: 4, workers: 1, maxQueue: 100, clock, ...options });
  return { inner, session, clock };
}

function rowsOf(...rows: readonly (readonly number[])[]): { x: ReturnType<typeof tensor> } {
  return { x: tensor(Float32Array.from(rows.flat()), [rows.length, rows[0]?.length ?? 0]) };
}

async function sumOf(result: Promise<RunResult>): Promise<number[]> {
  return Array.from((await result).outputs['sum']?.data as Float32Array);
}

describe('a batching session', () => {
  it('joins what comes during a run, and gives each its own rows', async () => {
    const { inner, session } = batching();
    const gate = Promise.withResolvers<void>();
    inner.gate = gate.promise;
    const results = [
      session.run(rowsOf([1])),
      session.run(rowsOf([2])),
      session.run(rowsOf([3], [4])),
      session.run(rowsOf([5])),
    ];
    gate.resolve();
    assert.deepEqual(await Promise.all(results.map(sumOf)), [[1], [2], [3, 4], [5]]);
    assert.deepEqual(inner.runs, [1, 4]);
  });

  it('waits for others up to its delay, and no longer once it is full', async () => {
    const { inner, session, clock } = batching({ maxDelayMs: 5 });
    const first = session.run(rowsOf([1]));
    clock.advance(4);
    const second = session.run(rowsOf([2]));
    assert.deepEqual(inner.runs, []);
    clock.advance(1);
    assert.deepEqual([await sumOf(first), await sumOf(second)], [[1], [2]]);
    await Promise.all([1, 2, 3, 4].map((value) => session.run(rowsOf([value]))));
    assert.deepEqual(inner.runs, [2, 4]);
  });

  it('keeps apart what differs in shape or in the outputs asked for, and what fills a run alone', async () => {
    const { inner, session, clock } = batching({ maxDelayMs: 5 });
    const results = [
      session.run(rowsOf([1, 2])),
      session.run(rowsOf([3])),
      session.run(rowsOf([4]), { outputs: ['sum'] }),
      session.run(rowsOf([5], [6], [7], [8], [9])),
    ];
    clock.advance(5);
    assert.deepEqual(await Promise.all(results.map(sumOf)), [[3], [3], [4], [5, 6, 7, 8, 9]]);
    assert.deepEqual(
      inner.runs.toSorted((a, b) => a - b),
      [1, 1, 1, 5],
    );
    assert.deepEqual(Object.keys((await results[2])?.outputs ?? {}), ['sum']);
  });

  it('never shares memory between answers, and takes inputs as they were when it was called', async () => {
    const { session, clock } = batching({ maxDelayMs: 5 });
    const inputs = [rowsOf([1]), rowsOf([2])];
    const results = inputs.map((each) => session.run(each));
    for (const { x } of inputs) (x.data as Float32Array).fill(99);
    clock.advance(5);
    const [a, b] = (await Promise.all(results)).map(({ outputs }) => outputs['double']?.data as Float32Array);
    assert.deepEqual([a?.[0], b?.[0]], [2, 4]);
    assert.notEqual(a?.buffer, b?.buffer);
    assert.equal(a?.buffer.byteLength, 4);
  });

  it('shares the cost by rows', async () => {
    const { session, clock } = batching({ maxDelayMs: 5 });
    const results = [session.run(rowsOf([1])), session.run(rowsOf([2], [3]))];
    clock.advance(5);
    assert.deepEqual(
      (await Promise.all(results)).map(({ computeMs }) => computeMs),
      [10, 20],
    );
  });

  it('fails only the request that makes a run fail', async () => {
    const { inner, session, clock } = batching({ maxDelayMs: 5 });
    inner.poison = 13;
    const results = [1, 13, 2].map((value) => session.run(rowsOf([value])));
    clock.advance(5);
    const settled = await Promise.allSettled(results);
    assert.deepEqual(
      settled.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled'],
    );
    assert.deepEqual(inner.runs, [3, 1, 1, 1]);
  });

  it('never answers with the rows of others where the first dimension is no batch', async () => {
    const { inner, session, clock } = batching({ maxDelayMs: 5 });
    inner.folds = true;
    const results = [session.run(rowsOf([1])), session.run(rowsOf([2]))];
    clock.advance(5);
    assert.deepEqual(await Promise.all(results.map(sumOf)), [[1], [2]]);
  });

  it('lets those go who give up, before and during the run', async () => {
    const { inner, session, clock } = batching({ maxDelayMs: 5 });
    const [early, late] = [new AbortController(), new AbortController()];
    const results = [
      session.run(rowsOf([1]), { signal: early.signal }),
      session.run(rowsOf([2]), { signal: late.signal }),
      session.run(rowsOf([3])),
    ];
    const gate = Promise.withResolvers<void>();
    inner.gate = gate.promise;
    early.abort();
    await rejects(results[0] as Promise<unknown>, 'ERR_INFERKV_ABORTED');
    clock.advance(5);
    assert.deepEqual(inner.runs, [2]);
    late.abort();
    await rejects(results[1] as Promise<unknown>, 'ERR_INFERKV_ABORTED');
    gate.resolve();
    assert.deepEqual(await sumOf(results[2] as Promise<RunResult>), [3]);
  });

  it('runs nothing for nobody, and keeps to deadlines', async () => {
    const { inner, session, clock } = batching({ maxDelayMs: 50 });
    const asked = session.run(rowsOf([1]), { deadlineMs: 10 });
    clock.advance(10);
    await rejects(asked, 'ERR_INFERKV_DEADLINE');
    clock.advance(100);
    assert.deepEqual(inner.runs, []);
    await session.close();
  });

  it('refuses what is wrong before it waits, and what is too much', async () => {
    const { session, clock } = batching({ maxDelayMs: 5, maxQueue: 2 });
    await rejects(session.run({}), 'ERR_INFERKV_INPUT_MISSING');
    await rejects(session.run(rowsOf([1]), { outputs: ['nothing'] }), 'ERR_INFERKV_OUTPUT_UNKNOWN');
    const waiting = [session.run(rowsOf([1])), session.run(rowsOf([2]))];
    await rejects(session.run(rowsOf([3])), 'ERR_INFERKV_OVERLOADED');
    clock.advance(5);
    await Promise.all(waiting);
    assert.deepEqual(await sumOf((clock.advance(0), closing(session, rowsOf([4])))), [4]);
  });

  it('finishes what it accepted when it is closed, and then refuses', async () => {
    const { inner, session } = batching({ maxDelayMs: 1000 });
    const accepted = session.run(rowsOf([1]));
    await session.close();
    assert.deepEqual([await sumOf(accepted), inner.closed], [[1], true]);
    await rejects(session.run(rowsOf([2])), 'ERR_INFERKV_CLOSED');
  });

  it('refuses models that have no dimension to join along', () => {
    const unfit: SessionMetadata[] = [
      { ...METADATA, inputs: [{ name: 'x', type: 'float32', shape: [1, 3] }] },
      { ...METADATA, outputs: [{ name: 'y', type: 'float32', shape: [] }] },
      { ...METADATA, inputs: [{ name: 'x', type: 'string', shape: ['N'] }] },
    ];
    for (const metadata of unfit) {
      const make = (): unknown =>
        new BatchingSession(new RowSession(metadata), { maxSize: 4, workers: 1, maxQueue: 1, clock: new FakeClock() });
      assert.throws(make, { code: 'ERR_INFERKV_CONFIG_INVALID' });
    }
  });

  it('answers as without batching, whatever comes when, of whatever size, and whoever leaves', async () => {
    const request = fc.record({
      rows: fc.integer({ min: 1, max: 5 }),
      width: fc.integer({ min: 1, max: 2 }),
      waitMs: fc.nat(4),
      leaves: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(request, { maxLength: 30 }),
        fc.integer({ min: 2, max: 6 }),
        async (requests, maxSize) => {
          const { inner, session, clock } = batching({ maxSize, maxDelayMs: 3 });
          let serial = 0;
          const asked = requests.map(async ({ rows, width, waitMs, leaves }) => {
            const values = Array.from({ length: rows }, () => Array.from({ length: width }, () => ++serial));
            const controller = new AbortController();
            const result = session.run(rowsOf(...values), { signal: controller.signal });
            if (leaves) controller.abort();
            clock.advance(waitMs);
            const sums = await sumOf(result).catch((error: unknown) => (error as InferkvError).code);
            const expected = values.map((row) => row.reduce((sum, each) => sum + each, 0));
            if (!leaves || sums !== 'ERR_INFERKV_ABORTED') assert.deepEqual(sums, expected);
          });
          clock.advance(3);
          await Promise.all(asked);
          assert.ok(inner.runs.every((rows) => rows <= Math.max(maxSize, 5)));
          await session.close();
        },
      ),
    );
  });
});

/** Asks, and closes the session while the request still waits. */
async function closing(session: BatchingSession, inputs: Tensors): Promise<RunResult> {
  const asked = session.run(inputs);
  await session.close();
  return asked;
}
