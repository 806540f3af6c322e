import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';

import { isInferkvError } from '../../src/base/errors.ts';
import { createInferenceCache, OnnxEngine, type InferenceCache } from '../../src/index.ts';
import { artifactIn } from '../support/artifact.ts';
import { scaling, twoByTwo } from '../support/models.ts';
import { TempFolder } from '../support/temp.ts';

describe('a session of onnxruntime-node, wrapped', () => {
  let folder: TempFolder;
  let cache: InferenceCache;
  before(() => {
    folder = new TempFolder();
    cache = createInferenceCache({ repository: folder.path });
  });
  after(async () => {
    await cache.close();
    folder[Symbol.dispose]();
  });

  const x = (...values: number[]): { x: OrtTensor } => ({
    x: new OrtTensor('float32', Float32Array.from(values), [values.length]),
  });

  it('keeps its results, in tensors of its own kind', async () => {
    const bytes = scaling(2);
    const session = await InferenceSession.create(bytes);
    let runs = 0;
    const plainRun = session.run.bind(session);
    session.run = (async (...args: Parameters<typeof plainRun>) => {
      runs++;
      return plainRun(...args);
    }) as typeof session.run;
    const cached = await cache.wrap(session, { artifact: { bytes } });
    for (let round = 0; round < 3; round++) {
      const { y } = await cached.run(x(1, 2));
      assert.ok(y instanceof OrtTensor);
      assert.deepEqual([y.type, [...y.dims], [...(y.data as Float32Array)]], ['float32', [2], [2, 4]]);
      // What a receiver does to his copy is nobody else's.
      (y.data as Float32Array).fill(0);
    }
    assert.equal(runs, 1);
    const { cache: report } = await cached.runCached(x(1, 2));
    assert.equal(report.status, 'hit');
    assert.equal((await cached.runCached(x(1, 2), { cache: 'refresh' })).cache.status, 'miss');
    assert.equal(runs, 2);
    await session.release();
  });

  it('runs what it was given when it was called', async () => {
    const bytes = scaling(3);
    const session = await InferenceSession.create(bytes);
    const cached = await cache.wrap(session, { artifact: { bytes } });
    const feeds = x(5);
    const running = cached.run(feeds);
    (feeds.x.data as Float32Array)[0] = 100;
    assert.equal((await running)['y']?.data[0], 15);
    assert.equal((await cached.run(x(5)))['y']?.data[0], 15);
    await session.release();
  });

  it('goes on being what it was', async () => {
    const bytes = twoByTwo();
    const session = await InferenceSession.create(bytes);
    const cached = await cache.wrap(session, { artifact: { bytes } });
    assert.equal(Object.getPrototypeOf(cached), Object.getPrototypeOf(session));
    assert.deepEqual(
      [cached.inputNames, cached.outputNames],
      [
        ['a', 'b'],
        ['sum', 'difference'],
      ],
    );
    const two = (first: number): OrtTensor => new OrtTensor('float32', Float32Array.of(first, 1), [1, 2]);
    const feeds = { a: two(5), b: two(3) };
    assert.deepEqual(Object.keys(await cached.run(feeds, ['sum'])), ['sum']);
    assert.deepEqual(Object.keys(await cached.run(feeds, ['sum'])), ['sum']);
    // Calls that bring memory for outputs, or options of the run, go to the session as they are.
    const sum = two(0);
    await cached.run(feeds, { sum });
    assert.deepEqual([...(sum.data as Float32Array)], [8, 2]);
    assert.deepEqual([...((await cached.run(feeds, ['sum'], { tag: 'mine' }))['sum']?.data as Float32Array)], [8, 2]);
    // What the session says of bad input is the session's to say.
    await assert.rejects(cached.run({ a: two(1) }), /b/);
    await assert.rejects(cached.run(5 as never));
    await cached.release();
  });

  it('has to be told which model it is', async () => {
    const bytes = scaling(4);
    const session = await InferenceSession.create(bytes);
    await assert.rejects(
      cache.wrap(session, {} as never),
      (error) => isInferkvError(error, 'ERR_INFERKV_CONFIG_INVALID') && error.message.includes('artifact'),
    );
    await assert.rejects(cache.wrap(session, undefined as never), (error) =>
      isInferkvError(error, 'ERR_INFERKV_CONFIG_INVALID'),
    );
    const nowhere = { artifact: { path: folder.at('nowhere.onnx') } };
    await assert.rejects(cache.wrap(session, nowhere), (error) =>
      isInferkvError(error, 'ERR_INFERKV_ARTIFACT_MISSING'),
    );
    const path = folder.write('four.onnx', bytes);
    const [byPath, byBytes, otherOptions] = await Promise.all([
      cache.wrap(session, { artifact: { path } }),
      cache.wrap(session, { artifact: { bytes } }),
      cache.wrap(session, { artifact: { path }, sessionOptions: { graphOptimizationLevel: 'disabled' } }),
    ]);
    assert.equal((await byPath.runCached(x(9))).cache.status, 'miss');
    assert.equal((await byBytes.runCached(x(9))).cache.status, 'hit');
    assert.equal((await otherOptions.runCached(x(9))).cache.status, 'miss');
    await session.release();
  });

  it('may be a session of our own, and is one afterwards', async () => {
    const artifact = artifactIn(folder, 'five.onnx', scaling(5));
    await using session = await new OnnxEngine().load(artifact);
    const cached = await cache.wrap(session, { artifact: { digest: artifact.digest } });
    const input = { x: { type: 'float32', shape: [1], data: Float32Array.of(2) } } as const;
    const first = await cached.run(input);
    const second = await cached.run(input);
    assert.deepEqual([...(second.outputs['y']?.data ?? [])], [10]);
    assert.ok(first.computeMs > 0);
    assert.equal(second.computeMs, 0);
    assert.equal(cached.metadata, session.metadata);
  });
});
