import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';

import { createInferenceCache, type InferenceCache, type Tensor } from '../../src/index.ts';
import { scaling } from '../support/models.ts';
import { TempFolder } from '../support/temp.ts';

const floats = (...values: number[]): Tensor => ({
  type: 'float32',
  shape: [values.length],
  data: Float32Array.from(values),
});

for (const storage of ['heap', 'shared'] as const)
  describe(`what the cache keeps in ${storage} memory`, () => {
    const partitions = { results: { storage } };
    let folder: TempFolder;
    let cache: InferenceCache;
    before(() => {
      folder = new TempFolder();
      folder.write('double.onnx', scaling(2));
      cache = createInferenceCache({ repository: folder.path, debug: true, partitions });
    });
    after(async () => {
      await cache.close();
      folder[Symbol.dispose]();
    });

    it('cannot be spoilt by whoever receives it: neither the first, nor one who joined, nor a later one', async () => {
      const model = cache.model('double');
      const spoil = (outputs: Awaited<ReturnType<typeof model.run>>['outputs']): void => {
        const y = outputs['y'];
        assert.ok(y !== undefined);
        assert.deepEqual([...y.data], [2, 4]);
        (y.data as Float32Array).fill(-1);
        (y.shape as number[])[0] = 99;
        Object.assign(outputs, { y: 'gone', extra: 1 });
      };
      const together = await Promise.all([1, 2, 3].map(() => model.run({ x: floats(1, 2) })));
      for (const { outputs } of together) spoil(outputs);
      for (let round = 0; round < 3; round++) spoil((await model.run({ x: floats(1, 2) })).outputs);
    });

    it('can be taken without a copy, as long as the lease lasts', async () => {
      const model = cache.model('double');
      await model.run({ x: floats(3, 4) });
      const one = await model.lease({ x: floats(3, 4) });
      const two = await model.lease({ x: floats(3, 4) });
      assert.equal(one.outputs['y']?.data, two.outputs['y']?.data);
      assert.deepEqual([...(one.outputs['y']?.data ?? [])], [6, 8]);
      assert.equal(one.cache.status, 'hit');
      // What can be locked is: names, tensors, shapes. The numbers are not, and must not be written to.
      assert.throws(() => Object.assign(one.outputs, { y: 5 }), TypeError);
      assert.throws(() => ((one.outputs['y']?.shape as number[])[0] = 5), TypeError);
      one.release();
      one.release();
      two[Symbol.dispose]();
      assert.equal(cache.stats().results.activeLeases, 0);
    });

    it('is overwritten in debug mode as soon as it is free, and not before', async () => {
      await using own = createInferenceCache({ repository: folder.path, debug: true, partitions });
      const model = own.model('double');
      const lease = await model.lease({ x: floats(5, 6) });
      const { data } = lease.outputs['y'] as Tensor;
      await model.run({ x: floats(5, 6) }, { cache: 'refresh' });
      assert.deepEqual([...data], [10, 12]);
      lease.release();
      const bytes = new Uint8Array((data as Float32Array).buffer, (data as Float32Array).byteOffset, 8);
      assert.deepEqual(
        [...bytes],
        Array.from({ length: 8 }, () => 0xdb),
      );
    });

    it('is left alone when it is free and nobody debugs', async () => {
      await using own = createInferenceCache({ repository: folder.path, partitions });
      const model = own.model('double');
      const lease = await model.lease({ x: floats(5, 6) });
      const { data } = lease.outputs['y'] as Tensor;
      await model.run({ x: floats(5, 6) }, { cache: 'refresh' });
      lease.release();
      assert.deepEqual([...data], [10, 12]);
    });

    it('is reported, and never freed, when its lease was forgotten', () => {
      const program = join(import.meta.dirname, '..', 'fixtures', 'forgotten-lease.ts');
      const { status, stdout, stderr } = spawnSync(process.execPath, ['--expose-gc', program, folder.path, storage], {
        encoding: 'utf8',
      });
      assert.equal(status, 0, stderr);
      assert.deepEqual(JSON.parse(stdout), { told: { model: 'double' }, activeLeases: 1, data: [14, 16] });
      assert.match(stderr, /INFERKV_LEASE_FORGOTTEN.*"double".*release\(\)/);
      assert.equal(stderr.match(/INFERKV_LEASE_FORGOTTEN/g)?.length, 1, stderr);
    });
  });
