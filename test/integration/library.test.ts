import assert from 'node:assert/strict';
import { renameSync, rmSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';

import { isInferkvError, type ErrorCode } from '../../src/base/errors.ts';
import {
  createInferenceCache,
  OnnxEngine,
  tensor,
  type Answer,
  type InferenceCache,
  type InferenceCacheOptions,
  type Tensor,
} from '../../src/index.ts';
import { fixedShape, nonZero, scaling, slow, twoByTwo } from '../support/models.ts';
import { TempFolder } from '../support/temp.ts';
import { rejects } from '../support/rejects.ts';

const floats = (...values: number[]): Tensor => tensor(Float32Array.from(values), [values.length]);
const valuesOf = ({ outputs }: Pick<Answer, 'outputs'>, name = 'y'): readonly unknown[] => [
  ...(outputs[name]?.data ?? []),
];

for (const storage of ['heap', 'shared'] as const)
  describe(`the library, results in ${storage} memory`, () => {
    const create = (options: InferenceCacheOptions): InferenceCache =>
      createInferenceCache({ ...options, partitions: { ...options.partitions, results: { storage } } });
    let folder: TempFolder;
    let cache: InferenceCache;
    before(() => {
      folder = new TempFolder();
      folder.write('double/1/model.onnx', scaling(2));
      folder.write('triple/1/model.onnx', scaling(3));
      folder.write('pair/1/model.onnx', twoByTwo());
      folder.write('nonzero/1/model.onnx', nonZero());
      folder.write('square/1/model.onnx', fixedShape());
      folder.write('slow/1/model.onnx', slow());
      folder.write('corrupt/1/model.onnx', scaling(2).subarray(0, 50));
      folder.write('empty/1/model.onnx', '');
      cache = create({ repository: folder.path });
    });
    after(async () => {
      await cache.close();
      folder[Symbol.dispose]();
    });

    it('computes once and says how each answer came about', async () => {
      const model = cache.model('double');
      const first = await model.run({ x: floats(1, 2) });
      const again = await model.run({ x: floats(1, 2) });
      assert.deepEqual(
        [valuesOf(first), valuesOf(again)],
        [
          [2, 4],
          [2, 4],
        ],
      );
      const { costMs, elapsedMs, savedMs, key, ...miss } = first.cache;
      assert.deepEqual(miss, { status: 'miss', hit: false, tier: undefined, version: '1' });
      assert.match(String(key), /^[0-9a-f]{64}$/);
      assert.ok(costMs > 0 && elapsedMs >= costMs);
      assert.equal(savedMs, 0);
      assert.deepEqual(
        {
          status: again.cache.status,
          hit: again.cache.hit,
          tier: again.cache.tier,
          key: again.cache.key,
          costMs: again.cache.costMs,
        },
        { status: 'hit', hit: true, tier: 'memory', key, costMs },
      );
      assert.equal(again.cache.savedMs, Math.max(0, costMs - again.cache.elapsedMs));
    });

    it('runs once for many equal requests at one time', async () => {
      const model = cache.model('double');
      const answers = await Promise.all(Array.from({ length: 30 }, () => model.run({ x: floats(30, 31) })));
      assert.deepEqual(
        answers.map(({ cache: { status } }) => status),
        ['miss', ...Array.from({ length: 29 }, () => 'joined')],
      );
      for (const answer of answers) assert.deepEqual(valuesOf(answer), [60, 62]);
      const [one, other] = answers;
      assert.notEqual(one?.outputs['y']?.data, other?.outputs['y']?.data);
    });

    it('does not let one caller end what others wait for', async () => {
      const model = cache.model('slow');
      await model.load();
      const x = tensor(new Float32Array(768 * 768).fill(1e-3), [768, 768]);
      const leaver = new AbortController();
      const leaving = rejects(model.run({ x }, { signal: leaver.signal }), 'ERR_INFERKV_ABORTED');
      const staying = model.run({ x });
      const late = rejects(model.run({ x }, { deadlineMs: 1 }), 'ERR_INFERKV_DEADLINE');
      leaver.abort();
      await Promise.all([leaving, late]);
      assert.equal((await staying).outputs['y']?.shape.length, 0);
      assert.equal((await model.run({ x })).cache.status, 'hit');
    });

    it('uses, refreshes and bypasses as it is told', async () => {
      const model = cache.model('double');
      const x = floats(40);
      const statuses = [];
      for (const mode of ['bypass', 'use', 'use', 'refresh', 'use', 'bypass'] as const) {
        statuses.push((await model.run({ x }, { cache: mode })).cache.status);
      }
      assert.deepEqual(statuses, ['bypass', 'miss', 'hit', 'miss', 'hit', 'bypass']);
    });

    it('tells requests apart by outputs, parameters, tenant and model', async () => {
      const model = cache.model('pair');
      const inputs = { a: { ...floats(1, 2), shape: [1, 2] }, b: { ...floats(3, 4), shape: [1, 2] } };
      const requests = [{}, { outputs: ['sum'] }, { parameters: { top: 5 } }, { tenant: 'a' }, { tenant: 'b' }];
      for (const options of requests) assert.equal((await model.run(inputs, options)).cache.status, 'miss');
      for (const options of requests) assert.equal((await model.run(inputs, options)).cache.status, 'hit');
      assert.deepEqual(Object.keys((await model.run(inputs, { outputs: ['sum'] })).outputs), ['sum']);
      const x = floats(77);
      assert.deepEqual(valuesOf(await cache.model('double').run({ x })), [154]);
      assert.deepEqual(valuesOf(await cache.model('triple').run({ x })), [231]);
    });

    it('keeps results as the settings of a model say', async () => {
      await using own = create({
        repository: folder.path,
        models: {
          double: { results: { enabled: false } },
          triple: { results: { maxEntryBytes: 8 } },
          square: { results: { ttlMs: 0 } },
        },
      });
      const twice = async (name: string, inputs: Record<string, Tensor>): Promise<readonly string[]> => {
        const model = own.model(name);
        return [(await model.run(inputs)).cache.status, (await model.run(inputs)).cache.status];
      };
      assert.deepEqual(await twice('double', { x: floats(1) }), ['bypass', 'bypass']);
      assert.deepEqual(await twice('triple', { x: floats(1, 2) }), ['miss', 'hit']);
      assert.deepEqual(await twice('triple', { x: floats(1, 2, 3) }), ['miss', 'miss']);
      assert.deepEqual(await twice('square', { x: tensor(Float32Array.of(1, 2, 3, 4), [2, 2]) }), ['miss', 'miss']);
    });

    it('takes inputs as they are when it is called, also while the model is still being loaded', async () => {
      await using own = create({ repository: folder.path });
      const model = own.model('double');
      for (const value of [5, 6]) {
        const x = floats(value);
        const running = model.run({ x });
        (x.data as Float32Array)[0] = 100;
        assert.deepEqual(valuesOf(await running), [2 * value]);
        assert.deepEqual(valuesOf(await model.run({ x: floats(value) })), [2 * value]);
      }
      assert.deepEqual(valuesOf(await model.run({ x: floats(100) })), [200]);
    });

    it('cannot be given a wrong result by shared memory that changes between key and run', async () => {
      const model = cache.model('double');
      const shared = new Float32Array(new SharedArrayBuffer(4));
      const x: Tensor = { type: 'float32', shape: [1], data: shared };
      shared[0] = 21;
      const running = model.run({ x });
      shared[0] = 50;
      assert.deepEqual(valuesOf(await running), [42]);
      assert.deepEqual(valuesOf(await model.run({ x: floats(21) })), [42]);
      assert.deepEqual(valuesOf(await model.run({ x })), [100]);
    });

    it('says what is wrong, and goes on', async () => {
      const x = floats(1);
      const model = cache.model('double');
      await rejects(cache.model('nobody').run({ x }), 'ERR_INFERKV_MODEL_NOT_FOUND', /"nobody".*corrupt, double/);
      await rejects(cache.model('double', { version: '9' }).run({ x }), 'ERR_INFERKV_MODEL_NOT_FOUND', /"9"/);
      await rejects(cache.model('../double').run({ x }), 'ERR_INFERKV_MODEL_NAME_INVALID');
      await rejects(cache.model('corrupt').run({ x }), 'ERR_INFERKV_ARTIFACT_INVALID', /no whole ONNX model/);
      await rejects(cache.model('empty').run({ x }), 'ERR_INFERKV_ARTIFACT_INVALID', /is empty/);
      await rejects(model.run({}), 'ERR_INFERKV_INPUT_MISSING');
      await rejects(model.run({ x, y: x }), 'ERR_INFERKV_INPUT_UNKNOWN');
      await rejects(model.run({ x: tensor(Int32Array.of(1), [1]) }), 'ERR_INFERKV_INPUT_INVALID', /int32/);
      await rejects(model.run({ x: { ...x, shape: [2 ** 50] } }), 'ERR_INFERKV_INPUT_INVALID');
      await rejects(model.run({ x }, { outputs: ['z'] }), 'ERR_INFERKV_OUTPUT_UNKNOWN');
      await rejects(model.run(null as never), 'ERR_INFERKV_INPUT_INVALID');
      await rejects(
        model.run({ x }, { parameters: { when: new Date() as never } }),
        'ERR_INFERKV_INPUT_INVALID',
        /class/,
      );
      assert.deepEqual(valuesOf(await model.run({ x: floats(Number.NaN, 0) })), [Number.NaN, 0]);
      assert.deepEqual((await model.run({ x: floats() })).outputs['y']?.shape, [0]);
      for (const options of [
        { cache: 'never' },
        { outputs: 'y' },
        { outputs: [5] },
        { tenant: 5 },
        { parameters: 5 },
        { ttlMs: -1 },
        { ttlMs: '1' },
      ]) {
        const setting = new RegExp(`"${Object.keys(options).join('')}"`);
        await rejects(model.run({ x }, options as never), 'ERR_INFERKV_INPUT_INVALID', setting);
      }
      for (const deadlineMs of [Number.POSITIVE_INFINITY, 1e12])
        assert.deepEqual(valuesOf(await model.run({ x }, { deadlineMs })), [2]);
      assert.throws(
        () => cache.wrap(undefined as never),
        (error) => isInferkvError(error, 'ERR_INFERKV_CONFIG_INVALID'),
      );
      assert.throws(
        () => tensor(Float32Array.of(1), [2]),
        (error) => isInferkvError(error, 'ERR_INFERKV_INPUT_INVALID'),
      );
      assert.equal(cache.stats().models.activeLeases + cache.stats().results.activeLeases, 0);
    });

    it('names the setting that is wrong', () => {
      const cases: readonly (readonly [unknown, ErrorCode, RegExp])[] = [
        [{ repositry: 'models' }, 'ERR_INFERKV_CONFIG_INVALID', /repositry/],
        [
          { partitions: { results: { budgetBytes: 'much' } } },
          'ERR_INFERKV_CONFIG_INVALID',
          /partitions\.results\.budgetBytes/,
        ],
        [
          { partitions: { models: { budgetBytes: 0 } } },
          'ERR_INFERKV_CONFIG_INVALID',
          /partitions\.models\.budgetBytes/,
        ],
        [{ partitions: { models: { budgetBytes: '120%' } } }, 'ERR_INFERKV_CONFIG_INVALID', /120%/],
        [{ partitions: { models: { policy: 'mru' } } }, 'ERR_INFERKV_POLICY_UNKNOWN', /lru, lfu, fifo/],
        [{ models: { a: { session: { threads: 0 } } } }, 'ERR_INFERKV_CONFIG_INVALID', /models\.a\.session\.threads/],
        [{ recheckMs: Number.NaN }, 'ERR_INFERKV_CONFIG_INVALID', /recheckMs/],
      ];
      for (const [options, code, says] of cases) {
        assert.throws(
          () => createInferenceCache(options as never),
          (error) => isInferkvError(error, code) && says.test(error.message),
        );
      }
    });

    it('lists its models, their metadata and where they stand', async () => {
      await using own = create({ repository: folder.at('double', '1', 'model.onnx') });
      assert.deepEqual(
        (await own.models()).map(({ name, version, resident }) => ({ name, version, resident })),
        [{ name: 'model', version: '1', resident: false }],
      );
      const spec = (name: string): object => ({ name, type: 'float32', shape: ['N'] });
      assert.deepEqual(await own.model('model').metadata(), { inputs: [spec('x')], outputs: [spec('y')] });
      const all = await cache.models();
      assert.deepEqual(
        all
          .filter(({ fault }) => fault !== undefined)
          .map(({ name, fault }) => [name, isInferkvError(fault) && fault.code]),
        [
          ['corrupt', 'ERR_INFERKV_ARTIFACT_INVALID'],
          ['empty', 'ERR_INFERKV_ARTIFACT_INVALID'],
        ],
      );
      assert.equal(all.length, 8);
      const { resident, residentBytes, fileBytes, engine } = await own.model('model').status();
      assert.deepEqual([resident, engine], [true, 'onnx']);
      assert.ok(residentBytes > fileBytes);
    });

    it('lets runs end when it closes, leaves nothing behind, and takes nothing more', async () => {
      const own = create({ repository: folder.path });
      const model = own.model('double');
      await model.pin();
      await model.run({ x: floats(0) });
      const lease = await model.lease({ x: floats(0) });
      const running = model.run({ x: floats(1, 2) });
      const closing = own.close();
      assert.deepEqual(valuesOf(await running), [2, 4]);
      assert.deepEqual(valuesOf(lease), [0]);
      lease.release();
      await closing;
      await own.close();
      const { models, results } = own.stats();
      for (const { usedBytes, entries, activeLeases } of [models, results]) {
        assert.deepEqual({ usedBytes, entries, activeLeases }, { usedBytes: 0, entries: 0, activeLeases: 0 });
      }
      assert.throws(
        () => own.model('double'),
        (error) => isInferkvError(error, 'ERR_INFERKV_CLOSED'),
      );
      await rejects(model.run({ x: floats(3) }), 'ERR_INFERKV_CLOSED');
      await rejects(model.load(), 'ERR_INFERKV_CLOSED');
    });

    it('swaps a file that is replaced under load, and says when one is gone', async () => {
      using own = new TempFolder();
      own.write('m/1/model.onnx', scaling(2));
      await using changing = create({ repository: own.path, recheckMs: 0 });
      const model = changing.model('m');
      assert.deepEqual(valuesOf(await model.run({ x: floats(1) })), [2]);
      let asking = true;
      const answers = new Set<unknown>();
      const failures: unknown[] = [];
      const callers = Array.from({ length: 4 }, async () => {
        while (asking) {
          const answer = await model
            .run({ x: floats(1) }, { cache: 'refresh' })
            .catch((error: unknown) => void failures.push(error));
          if (answer !== undefined) answers.add(valuesOf(answer)[0]);
          else asking = false;
        }
      });
      for (const factor of [3, 4, 5]) {
        // Whole under another name first, as everybody should; then a careless writer, whose half file nobody may see.
        renameSync(own.write('new.onnx.partial', scaling(factor)), own.at('m', '1', 'model.onnx'));
        await model.refresh();
        own.write('m/1/model.onnx', scaling(factor).subarray(0, 60));
        await rejects(model.refresh(), 'ERR_INFERKV_ARTIFACT_INVALID');
        assert.deepEqual(valuesOf(await model.run({ x: floats(10) })), [10 * factor]);
      }
      asking = false;
      await Promise.all(callers);
      assert.deepEqual(failures, []);
      assert.deepEqual(answers, new Set([2, 3, 4, 5]));
      rmSync(own.at('m'), { recursive: true });
      await model.unload();
      await rejects(model.run({ x: floats(99) }), 'ERR_INFERKV_MODEL_NOT_FOUND');
      own.write('m/1/model.onnx', scaling(7));
      await model.refresh();
      assert.deepEqual(valuesOf(await model.run({ x: floats(99) })), [693]);
    });

    it('makes of an engine another engine', () => {
      const engine = new OnnxEngine();
      const wrapped = cache.wrap(engine);
      assert.deepEqual(
        [wrapped.name, wrapped.version, wrapped.extensions],
        [engine.name, engine.version, engine.extensions],
      );
    });
  });
