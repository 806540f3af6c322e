import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { identity, scaling, slow } from '../support/models.ts';
import { floats, refused } from '../support/protocol-requests.ts';
import { serving, type Serving } from '../support/serving.ts';

describe('the server refuses what is wrong, says what, and goes on', () => {
  let served: Serving;

  before(async () => {
    served = await serving({
      'scale.onnx': scaling(2),
      'broken.onnx': 'no model',
      'same-BOOL.onnx': identity('bool', ['N']),
      'same-UINT8.onnx': identity('uint8', ['N']),
      'same-INT32.onnx': identity('int32', ['N']),
      'same-INT64.onnx': identity('int64', ['N']),
      'same-FP32.onnx': identity('float32', ['N']),
    });
  });

  after(() => served[Symbol.asyncDispose]());

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
