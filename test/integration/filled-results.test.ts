import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { FakeClock } from '../../src/base/clock.ts';
import { createRandom } from '../../src/base/random.ts';
import { copyTensors, type Tensors } from '../../src/base/tensor.ts';
import { SharedPartition } from '../../src/cache/shared-partition.ts';
import { tensorCodec } from '../../src/cache/tensor-codec.ts';
import { createInferenceCache, tensor } from '../../src/index.ts';
import { OutputForecast } from '../../src/inference/output-forecast.ts';
import { ResultCache, type Computation } from '../../src/inference/result-cache.ts';
import { createPolicy } from '../../src/policies/registry.ts';
import { scaling } from '../support/models.ts';
import { TempFolder } from '../support/temp.ts';

const COUNT = 20_000;

/** A model that fills what it is given with its input, as an engine does. */
function filler(spoil: 'nothing' | 'shape' | 'run' = 'nothing'): {
  readonly computation: Computation;
  readonly given: (Tensors | undefined)[];
} {
  const given: (Tensors | undefined)[] = [];
  const computation: Computation = {
    model: 'filler',
    modelKey: new Uint8Array(32),
    tags: ['model:filler'],
    keeps: true,
    ttlMs: undefined,
    maxEntryBytes: undefined,
    forecast: new OutputForecast(),
    run: async (inputs, _signal, into) => {
      given.push(into);
      const target = into?.['y'];
      if (target !== undefined && spoil === 'run') throw new Error('broken');
      const data = (target?.data as Float32Array | undefined) ?? new Float32Array(COUNT);
      data.fill((inputs['x']?.data as Float32Array)[0] as number);
      const isOther = target !== undefined && spoil === 'shape';
      const y = isOther ? tensor(data.subarray(0, COUNT / 2)) : tensor(data, target?.shape ?? [COUNT]);
      return { outputs: { y }, computeMs: 1 };
    },
  };
  return { computation, given };
}

function resultsOf(): {
  readonly partition: SharedPartition<Tensors>;
  readonly results: ResultCache;
} {
  const clock = new FakeClock();
  const partition = new SharedPartition<Tensors>({
    name: 'results',
    budgetBytes: 2 ** 21,
    codec: tensorCodec,
    policy: (context) => createPolicy('lru', context),
    clock,
    random: createRandom(1),
  });
  return { partition, results: new ResultCache(partition, clock) };
}

const x = (value: number): Tensors => ({ x: tensor(Float32Array.of(value)) });

describe('results that are written where they are kept', () => {
  it('are what the engine wrote, in the very memory it was given, once their shapes are known', async () => {
    const { partition, results } = resultsOf();
    const { computation, given } = filler();
    (await results.lease(computation, x(1), {})).release();
    using second = await results.lease(computation, x(2), {});
    using again = await results.lease(computation, x(2), {});
    const data = second.outputs['y']?.data as Float32Array;
    const target = given[1]?.['y']?.data as Float32Array;
    assert.equal(given[0], undefined);
    assert.deepEqual([data.buffer === target.buffer, data.byteOffset], [true, target.byteOffset]);
    assert.deepEqual([data[0], data[COUNT - 1], data.length, again.cache.status], [2, 2, COUNT, 'hit']);
    assert.equal(partition.invalidateTag('model:filler'), 2);
  });

  it('leave nothing behind where the run fails, or gives something else', async () => {
    for (const spoil of ['run', 'shape'] as const) {
      const { partition, results } = resultsOf();
      const { computation } = filler(spoil);
      await results.answer(computation, x(1), {});
      const { usedBytes } = partition.stats();
      if (spoil === 'run') {
        await assert.rejects(results.answer(computation, x(2), {}), /broken/);
        assert.equal(partition.stats().usedBytes, usedBytes);
        continue;
      }
      const { outputs } = await results.answer(computation, x(2), {});
      assert.deepEqual([outputs['y']?.shape, outputs['y']?.data[0]], [[COUNT / 2], 2]);
      const third = await results.answer(computation, x(2), {});
      assert.deepEqual([third.cache.status, third.outputs['y']?.data[COUNT / 2 - 1]], ['hit', 2]);
    }
  });

  it('are served as they are where they cannot be kept', async () => {
    const { partition, results } = resultsOf();
    const { computation } = filler();
    await results.answer(computation, x(1), {});
    using served = await results.lease({ ...computation, maxEntryBytes: 10 }, x(2), {});
    const before = copyTensors(served.outputs);
    for (let value = 3; value < 30; value++) await results.answer(computation, x(value), {});
    assert.deepEqual(served.outputs['y']?.data[7], before['y']?.data[7]);
    assert.equal(served.outputs['y']?.data[7], 2);
    await partition.close();
    assert.equal(partition.stats().usedBytes, 0);
  });

  it('are right from a real engine, whose threads write them', async () => {
    using folder = new TempFolder();
    folder.write('double.onnx', scaling(2));
    await using cache = createInferenceCache({
      repository: folder.path,
      partitions: { results: { storage: 'shared', budgetBytes: '4MB' } },
      debug: true,
    });
    for (let value = 1; value < 60; value++) {
      const input = new Float32Array(COUNT).fill(value);
      const { outputs } = await cache.model('double').run({ x: tensor(input) });
      assert.ok((outputs['y']?.data as Float32Array).every((each) => each === 2 * value));
    }
    assert.ok(cache.stats().results.usedBytes <= cache.stats().results.budgetBytes);
    assert.ok(cache.stats().results.evictions > 0);
  });
});
