import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { isInferkvError } from '../../src/base/errors.ts';
import type { TensorType } from '../../src/base/tensor.ts';
import { createInferenceServer } from '../../src/server/index.ts';
import { identity, nonZero, scaling, twoByTwo } from '../support/models.ts';
import { ProtocolClient, type Value } from '../support/protocol-client.ts';
import { floats, refused } from '../support/protocol-requests.ts';
import { serving as servingOf, type Serving } from '../support/serving.ts';

const SAMPLES: Readonly<Record<string, readonly [type: TensorType, values: readonly Value[]]>> = {
  BOOL: ['bool', [true, false, true]],
  UINT8: ['uint8', [0, 7, 255]],
  UINT16: ['uint16', [0, 7, 65_535]],
  UINT32: ['uint32', [0, 7, 4_294_967_295]],
  UINT64: ['uint64', [0n, 7n, 18_446_744_073_709_551_615n]],
  INT8: ['int8', [-128, 7, 127]],
  INT16: ['int16', [-32_768, 7, 32_767]],
  INT32: ['int32', [-2_147_483_648, 7, 2_147_483_647]],
  INT64: ['int64', [-9_223_372_036_854_775_808n, 7n, 9_223_372_036_854_775_807n]],
  FP16: ['float16', [0.5, -2, 65_504]],
  FP32: ['float32', [0.5, -2, 2 ** 33]],
  FP64: ['float64', [0.1, -2, 1e300]],
  BYTES: ['string', ['a', '', 'grün']],
};

for (const storage of ['heap', 'shared'] as const)
  describe(`the server, results in ${storage} memory`, () => {
    const serving = (
      files: Parameters<typeof servingOf>[0],
      options: Parameters<typeof servingOf>[1] = {},
    ): Promise<Serving> =>
      servingOf(files, { ...options, cache: { ...options.cache, partitions: { results: { storage } } } });
    let served: Serving;

    before(async () => {
      served = await serving({
        'scale/1/model.onnx': scaling(2),
        'scale/2/model.onnx': scaling(3),
        'pair.onnx': twoByTwo(),
        'places.onnx': nonZero(),
        ...Object.fromEntries(
          Object.entries(SAMPLES).map(([datatype, [type]]) => [`same-${datatype}.onnx`, identity(type, ['N'])]),
        ),
      });
    });

    after(() => served[Symbol.asyncDispose]());

    describe('tells of itself and its models', () => {
      it('health, readiness and what it can do', async () => {
        const { client } = served;
        assert.deepEqual(await client.get('v2/health/live'), { live: true });
        assert.deepEqual(await client.get('v2/health/ready'), { live: true, ready: true });
        const { name, extensions } = await client.get<{ name: string; extensions: string[] }>('v2');
        assert.deepEqual([name, extensions], ['inferkv', ['binary_tensor_data', 'model_repository']]);
      });

      it('a model: inputs, outputs, versions, readiness', async () => {
        const { client } = served;
        const expected = {
          name: 'pair',
          versions: ['1'],
          platform: 'onnxruntime_onnx',
          inputs: ['a', 'b'].map((name) => ({ name, datatype: 'FP32', shape: [-1, 2] })),
          outputs: ['sum', 'difference'].map((name) => ({ name, datatype: 'FP32', shape: [-1, 2] })),
        };
        assert.deepEqual(await client.get('v2/models/pair'), expected);
        assert.deepEqual(await client.get('v2/models/pair/versions/1'), expected);
        assert.deepEqual((await client.get<{ versions: string[] }>('v2/models/scale')).versions, ['1', '2']);
        assert.deepEqual(await client.get('v2/models/scale/versions/2/ready'), { name: 'scale', ready: true });
        assert.deepEqual(await client.get('v2/models/scale/ready'), { name: 'scale', ready: true });
      });

      it('that there is no such model, version or place', async () => {
        const { client } = served;
        await refused(client.get('v2/models/nowhere'), 404, /no model "nowhere"/);
        await refused(client.get('v2/models/scale/versions/3'), 404, /no version "3"/);
        await refused(client.get('v3'), 404, /nothing at GET/);
        await refused(client.get('v2/models/%zz'), 400, /not a valid url/);
        await refused(client.infer('..%2f..%2fetc%2fpasswd', [floats('x', [1])]), 400, /no model name/);
        await refused(client.infer('../../etc/passwd', [floats('x', [1])]), 400, /no model name/);
      });
    });

    describe('answers', () => {
      for (const [datatype, [, values]] of Object.entries(SAMPLES)) {
        it(`${datatype}, as JSON and as bytes, each way`, async () => {
          const input = { name: 'x', datatype, shape: [3], values };
          for (const binaryInputs of [false, true]) {
            for (const binaryOutputs of [false, true]) {
              const { outputs } = await served.client.infer(`same-${datatype}`, [input], {
                binaryInputs,
                binaryOutputs,
              });
              const expected = binaryOutputs
                ? values
                : values.map((value) => (typeof value === 'bigint' ? Number(value) : value));
              assert.deepEqual(outputs, [{ name: 'y', datatype, shape: [3], values: expected }]);
            }
          }
        });
      }

      it('with the id, the version that answered, and only the outputs asked for, in their order', async () => {
        const rows = { datatype: 'FP32', shape: [1, 2] };
        const inputs = [
          { name: 'a', ...rows, values: [5, 7] },
          { name: 'b', ...rows, values: [1, 2] },
        ];
        const answer = await served.client.infer('pair', inputs, {
          id: 'request 42 "quoted"',
          outputs: [{ name: 'difference', binary: true }, { name: 'sum' }],
        });
        assert.deepEqual([answer.id, answer.modelName, answer.modelVersion], ['request 42 "quoted"', 'pair', '1']);
        assert.deepEqual(
          answer.outputs.map(({ name, values }) => [name, values]),
          [
            ['difference', [4, 5]],
            ['sum', [6, 9]],
          ],
        );
        const [only, ...rest] = (await served.client.infer('pair', inputs, { outputs: [{ name: 'sum' }] })).outputs;
        assert.deepEqual([only?.name, rest], ['sum', []]);
      });

      it('by the version asked for, and by the highest where none is', async () => {
        const ask = async (version?: string): Promise<readonly Value[] | undefined> =>
          (await served.client.infer('scale', [floats('x', [1, 10])], version === undefined ? {} : { version }))
            .outputs[0]?.values;
        assert.deepEqual(await ask('1'), [2, 20]);
        assert.deepEqual(await ask('2'), [3, 30]);
        assert.deepEqual(await ask(), [3, 30]);
      });

      it('nested arrays and several binary inputs whose places in memory suit no type', async () => {
        const nested = await served.client.post('v2/models/pair/infer', {
          inputs: ['a', 'b'].map((name) => ({
            name,
            datatype: 'FP32',
            shape: [2, 2],
            data: [
              [1, 2],
              [3, 4],
            ],
          })),
        });
        assert.deepEqual((nested as { outputs: { data: number[] }[] }).outputs[0]?.data, [2, 4, 6, 8]);
        const texts = await served.client.infer(
          'same-BYTES',
          [{ name: 'x', datatype: 'BYTES', shape: [2], values: ['odd', 'x'] }],
          {
            binaryInputs: true,
            id: 'a'.repeat(7),
          },
        );
        assert.deepEqual(texts.outputs[0]?.values, ['odd', 'x']);
      });

      it('long JSON, which is read and written beside the event loop, as it answers short JSON', async () => {
        const values = Array.from({ length: 50_000 }, (_, at) => at / 8);
        const { outputs } = await served.client.infer('scale', [floats('x', values)], { id: 'long' });
        assert.deepEqual(
          outputs[0]?.values,
          values.map((value) => 3 * value),
        );
        const texts = Array.from({ length: 5000 }, (_, at) => `text ${at} ü`);
        const strings = { name: 'x', datatype: 'BYTES', shape: [5000], values: texts };
        assert.deepEqual((await served.client.infer('same-BYTES', [strings])).outputs[0]?.values, texts);
        const unlike = values.map((value, at) => (at === 40_000 ? 'odd' : value));
        await refused(
          served.client.infer('scale', [{ ...floats('x', values), values: unlike }]),
          400,
          /"odd" as element 40000/,
        );
        const nan = { ...floats('x', []), shape: [5000], values: Array.from({ length: 5000 }, () => Number.NaN) };
        await refused(served.client.infer('same-FP32', [nan], { binaryInputs: true }), 400, /binary data/);
        assert.match(await (await fetch(`${served.address}/metrics`)).text(), /inferkv_http_body_bytes 0\n/);
      });

      it('an empty tensor', async () => {
        const { outputs } = await served.client.infer('places', [floats('x', [0, 0])], { binaryOutputs: true });
        assert.deepEqual(outputs, [{ name: 'places', datatype: 'INT64', shape: [1, 0], values: [] }]);
      });
    });

    describe('tells by Cache-Status how an answer came about', () => {
      const ask = async (value: number, headers: Readonly<Record<string, string>> = {}): Promise<string> => {
        const { headers: answered } = await served.client.infer('scale', [floats('x', [value])], { headers });
        return answered.get('cache-status') ?? '';
      };

      it('a miss, then a hit with tier, key and what it saved', async () => {
        assert.match(await ask(100), /^inferkv; fwd=miss; cost-ms=\d+\.\d{3}; key="[0-9a-f]{64}"$/);
        assert.match(await ask(100), /^inferkv; hit; tier=memory; saved-ms=\d+\.\d{3}; key="[0-9a-f]{64}"$/);
      });

      it('JSON and bytes of the same values are the same request', async () => {
        await ask(101);
        const { headers } = await served.client.infer('scale', [floats('x', [101])], { binaryInputs: true });
        assert.match(headers.get('cache-status') ?? '', /; hit;/);
      });

      it('no-store neither reads nor keeps, no-cache computes anew', async () => {
        assert.match(await ask(102, { 'cache-control': 'no-store' }), /^inferkv; fwd=bypass; cost-ms=[\d.]+$/);
        assert.match(await ask(102), /fwd=miss/);
        assert.match(await ask(102, { 'cache-control': 'max-age=0, No-Cache' }), /fwd=miss/);
        assert.match(await ask(102), /; hit;/);
      });

      it('parameters of the request tell requests apart, those of its form do not', async () => {
        const status = async (parameters: Record<string, string | number | boolean>): Promise<string> =>
          (await served.client.infer('scale', [floats('x', [103])], { parameters })).headers.get('cache-status') ?? '';
        assert.match(await status({}), /fwd=miss/);
        assert.match(await status({ temperature: 1 }), /fwd=miss/);
        assert.match(await status({ binary_data_output: true, timeout: 60_000_000 }), /; hit;/);
      });
    });

    describe('has a repository that is listed, loaded and unloaded', () => {
      interface Entry {
        readonly name: string;
        readonly version: string;
        readonly state: string;
        readonly reason: string;
      }
      const entries = async (client: ProtocolClient, ready?: boolean): Promise<readonly Entry[]> =>
        client.post('v2/repository/index', ready === undefined ? {} : { ready });

      it('as Triton has it', async () => {
        await using own = await serving({
          'scale/1/model.onnx': scaling(2),
          'scale/2/model.onnx': scaling(3),
          'pair.onnx': twoByTwo(),
        });
        const { client, cache } = own;
        const named = async (): Promise<unknown> =>
          (await entries(client)).map(({ name, version, state, reason }) => [name, version, state, reason]);
        const asleep = 'loads when it is asked';
        assert.deepEqual(await named(), [
          ['pair', '1', 'READY', asleep],
          ['scale', '1', 'READY', asleep],
          ['scale', '2', 'READY', asleep],
        ]);
        await client.post('v2/repository/models/scale/load');
        assert.deepEqual((await entries(client)).at(-1), { name: 'scale', version: '2', state: 'READY', reason: '' });
        assert.equal(cache.stats().models.entries, 1);
        await client.infer('scale', [floats('x', [1])], { version: '1' });
        await client.post('v2/repository/models/scale/unload', { parameters: { unload_dependents: true } });
        assert.equal(cache.stats().models.entries, 0);
        assert.deepEqual(
          (await entries(client, true)).map(({ name }) => name),
          ['pair'],
        );
        await refused(client.get('v2/models/scale/ready'), 503, /./);
        await refused(client.infer('scale', [floats('x', [1])]), 503, /unloaded by request/);
        await client.post('v2/repository/models/scale/load');
        assert.deepEqual((await client.infer('scale', [floats('x', [1])])).outputs[0]?.values, [3]);
      });

      it('loads a changed file, and refuses what it cannot do', async () => {
        await using own = await serving({ 'scale.onnx': scaling(2) });
        const { client, folder } = own;
        assert.deepEqual((await client.infer('scale', [floats('x', [1])])).outputs[0]?.values, [2]);
        folder.write('scale.onnx', scaling(5));
        await client.post('v2/repository/models/scale/load');
        assert.deepEqual((await client.infer('scale', [floats('x', [1])])).outputs[0]?.values, [5]);
        await refused(client.post('v2/repository/models/nowhere/load'), 404, /no model/);
        await refused(client.post('v2/repository/models/nowhere/unload'), 404, /no model/);
        await refused(client.post('v2/repository/models/scale/load', { parameters: { config: '{}' } }), 400, /config/);
        await refused(client.post('v2/repository/index', { ready: 'yes' }), 400, /ready/);
      });
    });

    it('joins requests that come together where a model is so set, and keeps their answers apart', async () => {
      const settings = JSON.stringify({ batching: { maxSize: 16, maxDelayMs: 20 } });
      await using own = await serving({ 'scale/1/model.onnx': scaling(2), 'scale/inferkv.json': settings });
      await own.cache.model('scale').load();
      const ask = async (value: number): Promise<readonly [Value | undefined, string]> => {
        const { outputs, headers } = await own.client.infer('scale', [floats('x', [value])]);
        return [outputs[0]?.values[0], headers.get('cache-status')?.split(';')[1] ?? ''];
      };
      const values = Array.from({ length: 40 }, (_, at) => at);
      const first = await Promise.all(values.map(ask));
      assert.deepEqual(
        first,
        values.map((value) => [2 * value, ' fwd=miss']),
      );
      assert.equal(own.cache.stats().results.insertions, 40);
      assert.deepEqual(await ask(7), [14, ' hit']);
    });

    it('says at its first use that a model cannot be batched', async () => {
      const settings = JSON.stringify({ batching: { maxSize: 16 } });
      await using own = await serving({ 'places/1/model.onnx': nonZero(), 'places/inferkv.json': settings });
      await refused(own.client.infer('places', [floats('x', [1])]), 500, /cannot be batched/);
    });

    it('tells Prometheus what happened', async () => {
      await using own = await serving({ 'scale.onnx': scaling(2) });
      for (let i = 0; i < 3; i++) await own.client.infer('scale', [floats('x', [1])]);
      const response = await fetch(`${own.address}/metrics`);
      assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
      const text = await response.text();
      for (const line of [
        'inferkv_answers_total{model="scale",status="hit"} 2',
        'inferkv_answers_total{model="scale",status="miss"} 1',
        'inferkv_partition_hits_total{partition="results"} 2',
        'inferkv_partition_entries{partition="models"} 1',
        'inferkv_partition_departures_total{partition="results",reason="evicted"} 0',
        'inferkv_partition_refusals_by_reason_total{partition="attention",reason="quota"} 0',
        'inferkv_model_loads_total{model="scale"} 1',
        'inferkv_http_request_duration_seconds_count{route="/v2/models/:name/infer",method="POST",status="200"} 3',
        'inferkv_http_requests_under_way 0',
        'inferkv_http_body_bytes 0',
      ]) {
        assert.ok(text.includes(`${line}\n`), `${line}\n\n${text.slice(0, 3000)}`);
      }
    });

    it('listens nowhere else without keys, and says so', () => {
      const { cache } = served;
      for (const host of ['0.0.0.0', '::', '192.168.1.7', 'example.org']) {
        assert.throws(
          () => createInferenceServer(cache, { host }),
          (error) => {
            assert.ok(isInferkvError(error, 'ERR_INFERKV_CONFIG_INVALID'));
            return /inferkv keys add/.test(error.message);
          },
        );
      }
      assert.throws(() => createInferenceServer(cache, { port: 70_000 }), /port/);
    });

    it('listens at every address of localhost, and stops at each', async () => {
      await using own = await serving({ 'scale.onnx': scaling(2) }, { server: { host: 'localhost' } });
      for (const host of ['127.0.0.1', 'localhost']) {
        const client = new ProtocolClient(`http://${host}:${own.port}`);
        assert.deepEqual((await client.infer('scale', [floats('x', [1])])).outputs[0]?.values, [2]);
      }
      await own.server.close();
      await assert.rejects(fetch(`http://localhost:${own.port}/v2`));
    });

    it('says that its port is taken', async () => {
      const second = createInferenceServer(served.cache, { port: served.port, logLevel: 'silent' });
      await assert.rejects(second.listen(), /another port/);
      await second.close();
    });
  });
