import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { isInferkvError } from '../../src/base/errors.ts';
import type { TensorType } from '../../src/base/tensor.ts';
import { createInferenceServer } from '../../src/server/index.ts';
import { identity, nonZero, scaling, slow, twoByTwo } from '../support/models.ts';
import { ProtocolClient, ProtocolError, type Value, type WireTensor } from '../support/protocol-client.ts';
import { serving, type Serving } from '../support/serving.ts';

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

function floats(name: string, values: readonly number[]): WireTensor {
  return { name, datatype: 'FP32', shape: [values.length], values };
}

async function refused(work: Promise<unknown>, status: number, text: RegExp): Promise<ProtocolError> {
  let seen: unknown;
  await assert.rejects(work, (error) => {
    seen = error;
    return error instanceof ProtocolError && error.status === status && text.test(error.message);
  });
  return seen as ProtocolError;
}

describe('the server', () => {
  let served: Serving;

  before(async () => {
    served = await serving({
      'scale/1/model.onnx': scaling(2),
      'scale/2/model.onnx': scaling(3),
      'pair.onnx': twoByTwo(),
      'places.onnx': nonZero(),
      'broken.onnx': 'no model',
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
            const { outputs } = await served.client.infer(`same-${datatype}`, [input], { binaryInputs, binaryOutputs });
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

  describe('refuses what is wrong, says what, and goes on', () => {
    const post = (body: unknown, path = 'v2/models/scale/infer'): Promise<unknown> =>
      served.client.post(path, body as object);
    const input = { name: 'x', datatype: 'FP32', shape: [2], data: [1, 2] };
    const cases: readonly (readonly [what: string, body: unknown, text: RegExp])[] = [
      ['no inputs', {}, /inputs: /],
      ['inputs of the wrong kind', { inputs: 'x' }, /inputs: /],
      ['an input without a name', { inputs: [{ ...input, name: undefined }] }, /inputs\.0\.name/],
      ['a negative size', { inputs: [{ ...input, shape: [-1] }] }, /inputs\.0\.shape\.0/],
      ['a size that is no whole number', { inputs: [{ ...input, shape: [1.5] }] }, /inputs\.0\.shape\.0/],
      [
        'a shape that says more than there is',
        { inputs: [{ ...input, shape: [3] }] },
        /has 2 elements where its shape \[3\] asks for 3/,
      ],
      ['a shape that says less than there is', { inputs: [{ ...input, shape: [1] }] }, /has more elements/],
      ['a huge shape', { inputs: [{ ...input, shape: [2 ** 40, 2 ** 40] }] }, /has 2 elements/],
      ['an unknown datatype', { inputs: [{ ...input, datatype: 'FP8' }] }, /unknown datatype "FP8"/],
      [
        'a datatype named like a part of JavaScript',
        { inputs: [{ ...input, datatype: 'constructor' }] },
        /unknown datatype/,
      ],
      ['another datatype than the model takes', { inputs: [{ ...input, datatype: 'INT32' }] }, /takes float32/],
      ['a wrong element', { inputs: [{ ...input, data: [1, 'two'] }] }, /has "two" as element 1/],
      ['a number too large for its type', { inputs: [{ ...input, data: [1, 1e300] }] }, /number that float32 can hold/],
      ['arrays nested too deep', { inputs: [{ ...input, data: [[[1]], [[2]]] }] }, /nested deeper/],
      ['an input twice', { inputs: [input, input] }, /given twice/],
      ['an input that the model does not have', { inputs: [{ ...input, name: 'z' }] }, /no input "z"/],
      ['an input missing', { inputs: [] }, /"x" .* is missing/],
      ['an output that the model does not have', { inputs: [input], outputs: [{ name: 'z' }] }, /no output "z"/],
      [
        'both data and bytes',
        { inputs: [{ ...input, parameters: { binary_data_size: 8 } }] },
        /both "data" and binary_data_size/,
      ],
      ['neither data nor bytes', { inputs: [{ ...input, data: undefined }] }, /must have an array as its "data"/],
      [
        'bytes that are not there',
        { inputs: [{ ...input, data: undefined, parameters: { binary_data_size: 8 } }] },
        /claims 8 bytes .* only 0 left/,
      ],
      [
        'a size of bytes that is none',
        { inputs: [{ ...input, data: undefined, parameters: { binary_data_size: -1 } }] },
        /binary_data_size/,
      ],
      [
        'an extension that is not here',
        { inputs: [input], outputs: [{ name: 'y', parameters: { classification: 3 } }] },
        /classification/,
      ],
      ['a parameter of the wrong kind', { inputs: [input], parameters: { a: [] } }, /parameters\.a/],
      ['a time-out that is none', { inputs: [input], parameters: { timeout: -5 } }, /timeout/],
    ];
    for (const [what, body, text] of cases) {
      it(what, async () => {
        const { body: answer } = await refused(post(body), 400, text);
        assert.match(String(answer['code']), /^ERR_INFERKV_(BODY|INPUT|OUTPUT)_/);
      });
    }

    it('a whole number that JSON has rounded, and one out of range', async () => {
      const wide = (data: unknown[], datatype = 'INT64'): Promise<unknown> =>
        post({ inputs: [{ name: 'x', datatype, shape: [1], data }] }, `v2/models/same-${datatype}/infer`);
      await refused(wide([2 ** 60]), 400, /string of digits/);
      await refused(wide(['9223372036854775808']), 400, /int64/);
      await refused(wide([256], 'UINT8'), 400, /from 0 to 255/);
      await refused(wide([0.5], 'INT32'), 400, /whole number/);
      await refused(wide([1], 'BOOL'), 400, /true or false/);
    });

    it('bytes that do not fit their type', async () => {
      const send = (body: Buffer, length: number | string): Promise<Response> =>
        fetch(`${served.address}/v2/models/same-BOOL/infer`, {
          method: 'POST',
          body: new Uint8Array(body),
          headers: { 'inference-header-content-length': String(length) },
        });
      const json = (size: number, datatype = 'BOOL'): string =>
        JSON.stringify({ inputs: [{ name: 'x', datatype, shape: [3], parameters: { binary_data_size: size } }] });
      const cases_: readonly (readonly [Buffer, number | string, RegExp])[] = [
        [Buffer.from(`${json(3)}\0\u0001\u0002`), json(3).length, /other than 0 and 1/],
        [Buffer.from(`${json(2)}\0\u0001`), json(2).length, /2 bytes of binary data/],
        [Buffer.from(`${json(3)}\0\u0001\u0001more`), json(3).length, /4 bytes behind/],
        [Buffer.from(json(3)), 10_000, /says 10000 bytes of JSON/],
        [Buffer.from(json(3)), 'many', /number of bytes/],
        [Buffer.from(json(3)), -1, /number of bytes/],
        [Buffer.from(`${json(3, 'BYTES')}abc`), json(3, 'BYTES').length, /middle of the length/],
        [Buffer.from(`${json(4, 'BYTES')}\u0009\0\0\0`), json(4, 'BYTES').length, /element of 9 bytes/],
      ];
      for (const [body, length, text] of cases_) {
        const response = await send(body, length);
        const { error } = (await response.json()) as { error: string };
        assert.deepEqual([response.status, text.test(error)], [400, true], error);
      }
    });

    it('a body that is no JSON, no UTF-8, empty, encoded or not there', async () => {
      const send = async (
        body: string | Uint8Array<ArrayBuffer> | undefined,
        headers: Record<string, string> = {},
      ): Promise<number> => {
        const init = { method: 'POST', headers, ...(body !== undefined && { body }) };
        const response = await fetch(`${served.address}/v2/models/scale/infer`, init);
        assert.ok(typeof ((await response.json()) as { error: string }).error === 'string');
        return response.status;
      };
      assert.equal(await send('{"inputs": ['), 400);
      assert.equal(await send(Uint8Array.of(0xff, 0xfe)), 400);
      assert.equal(await send(''), 400);
      assert.equal(await send(undefined), 400);
      assert.equal(await send('[]'), 400);
      assert.equal(await send('null'), 400);
      assert.equal(await send('{}', { 'content-encoding': 'gzip' }), 400);
    });

    it('NaN as JSON, which bytes can carry', async () => {
      const input_ = { name: 'x', datatype: 'FP32', shape: [1], values: [Number.NaN] };
      await refused(served.client.infer('same-FP32', [input_], { binaryInputs: true }), 400, /binary data/);
      const { outputs } = await served.client.infer('same-FP32', [input_], { binaryInputs: true, binaryOutputs: true });
      assert.deepEqual(outputs[0]?.values, [Number.NaN]);
    });

    it('a model that is none, without telling strangers where it lies', async () => {
      const { body } = await refused(served.client.infer('broken', [floats('x', [1])]), 500, /./);
      assert.equal(body['code'], 'ERR_INFERKV_ARTIFACT_INVALID');
    });

    it('a deadline that has gone by', async () => {
      await using patient = await serving({ 'slow.onnx': slow() });
      const square = {
        name: 'x',
        datatype: 'FP32',
        shape: [768, 768],
        values: Array.from({ length: 768 * 768 }, () => 0),
      };
      const asked = patient.client.infer('slow', [square], { binaryInputs: true, parameters: { timeout: 1000 } });
      await refused(asked, 504, /deadline/);
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

  it('says that its port is taken', async () => {
    const second = createInferenceServer(served.cache, { port: served.port, logLevel: 'silent' });
    await assert.rejects(second.listen(), /another port/);
    await second.close();
  });
});
