import assert from 'node:assert/strict';
import { symlinkSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';

import type { ErrorCode } from '../../src/base/errors.ts';
import { isStrings, type Tensor, type Tensors } from '../../src/base/tensor.ts';
import type { Session, SessionOptions } from '../../src/engines/engine.ts';
import { TorchScriptEngine } from '../../src/engines/torchscript/engine.ts';
import { createInferenceCache } from '../../src/index.ts';
import { artifactIn } from '../support/artifact.ts';
import { scaling } from '../support/models.ts';
import { floats as protocolFloats } from '../support/protocol-requests.ts';
import { rejects } from '../support/rejects.ts';
import { serving } from '../support/serving.ts';
import { TempFolder } from '../support/temp.ts';
import { torchAbsent, torchModel } from '../support/torchscript.ts';

const floats = (values: readonly number[], shape: readonly number[] = [values.length]): Tensor => ({
  type: 'float32',
  shape,
  data: Float32Array.from(values),
});
const text = (value: string): Tensor => ({ type: 'string', shape: [], data: [value] });
const integer = (value: bigint): Tensor => ({ type: 'int64', shape: [], data: BigInt64Array.of(value) });
const real = (value: number): Tensor => ({ type: 'float64', shape: [], data: Float64Array.of(value) });
const yes: Tensor = { type: 'bool', shape: [], data: Uint8Array.of(1) };
const shown = (tensors: Tensors): object =>
  Object.fromEntries(Object.entries(tensors).map(([name, { shape, data }]) => [name, [shape, [...data]]]));

describe('TorchScript models', { skip: torchAbsent() }, () => {
  let folder: TempFolder;
  const engine = new TorchScriptEngine();
  const sessions: Session[] = [];
  let opened = 0;
  const open = async (name: string, settings: object = {}, options: SessionOptions = {}): Promise<Session> => {
    const artifact = artifactIn(folder, `${name}-${opened++}.pt`, torchModel(name));
    const session = await engine.load(artifact, { ...options, engine: { ...settings } });
    sessions.push(session);
    return session;
  };

  before(() => {
    folder = new TempFolder();
  });
  after(async () => {
    await Promise.all(sessions.map((session) => session.close()));
    folder[Symbol.dispose]();
  });

  describe('take and give', () => {
    const given = {
      'xs.0': floats([1, 2]),
      'xs.1': floats([3, 4]),
      'by_name.ab': floats([1, 1]),
      'by_name.x.y': floats([10, 10]),
      'pair.0': floats([5, 5]),
      'pair.1': floats([1, 1]),
      scale: real(0.5),
    };

    it('lists, dictionaries, tuples, numbers, strings, and what has a default', async () => {
      const session = await open('Structures');
      assert.deepEqual(
        session.metadata.inputs.map(({ name, type, optional, many }) => [name, type, optional ?? many]),
        [
          ['xs.*', 'any', 'list'],
          ['by_name.*', 'any', 'map'],
          ['pair.0', 'any', undefined],
          ['pair.1', 'any', undefined],
          ['scale', 'float64', undefined],
          ['times', 'int64', true],
          ['negate', 'bool', true],
          ['label', 'string', true],
          ['extra', 'any', true],
          ['sizes', 'int64', true],
        ],
      );
      // 5 - 1 + (1 + 3) + 1 * 2 + 10 * 3, times 0.5, times 2
      assert.deepEqual(shown((await session.run(given)).outputs), { total: [[2], [40, 42]] });
      const all = {
        ...given,
        times: integer(4n),
        negate: yes,
        label: text('größe'),
        extra: floats([100, 0]),
        sizes: { type: 'int64', shape: [3], data: BigInt64Array.of(1n, 2n, 3n) } as const,
      };
      assert.deepEqual(shown((await session.run(all)).outputs), {
        größe: [[2], [-280, -84]],
        sizes: [[3], [1n, 2n, 3n]],
      });
      const { 'xs.0': _first, 'xs.1': _second, 'by_name.ab': _ab, 'by_name.x.y': _xy, ...none } = given;
      assert.deepEqual(shown((await session.run(none)).outputs), { total: [[2], [4, 4]] });
    });

    it('nothing that does not suit them', async () => {
      const session = await open('Structures');
      const { 'xs.0': _first, ...gap } = given;
      const { 'pair.1': _half, ...halfPair } = given;
      const cases: readonly (readonly [Tensors, ErrorCode, RegExp])[] = [
        [gap, 'ERR_INFERKV_INPUT_MISSING', /xs\.0/],
        [halfPair, 'ERR_INFERKV_INPUT_MISSING', /pair\.1/],
        [{ ...given, 'xs.last': floats([1]) }, 'ERR_INFERKV_INPUT_UNKNOWN', /xs\.last/],
        [{ ...given, 'xs.01': floats([1]) }, 'ERR_INFERKV_INPUT_UNKNOWN', /xs\.01/],
        [{ ...given, scale: floats([1], []) }, 'ERR_INFERKV_INPUT_INVALID', /scale.*float32.*float64/],
        [{ ...given, times: { ...integer(1n), shape: [1] } }, 'ERR_INFERKV_INPUT_INVALID', /times/],
        [{ ...given, 'pair.0': text('x') }, 'ERR_INFERKV_INPUT_INVALID', /pair\.0.*strings/],
        [
          { ...given, 'pair.0': { type: 'uint32', shape: [1], data: Uint32Array.of(1) } },
          'ERR_INFERKV_ENGINE_FAILED',
          /uint32/,
        ],
      ];
      for (const [inputs, code, says] of cases) await rejects(session.run(inputs), code, says);
      assert.deepEqual(shown((await session.run(given)).outputs), { total: [[2], [40, 42]] });
    });

    it('named tuples, nested results, scalars and strings, by names that follow from the structure', async () => {
      const named = await open('NamedOutputs');
      assert.deepEqual(shown((await named.run({ x: floats([1]) })).outputs), { logits: [[1], [2]], state: [[1], [3]] });
      const nested = await open('Nested');
      assert.deepEqual(shown((await nested.run({ x: floats([1, 2, 3, 4], [2, 2]) })).outputs), {
        'output_0.0': [[2], [1, 2]],
        'output_0.1': [[2], [3, 4]],
        'output_1.0': [[], [10]],
        'output_1.1': [[], [2n]],
        output_2: [[], [0.5]],
        output_3: [[], [1]],
      });
      const words = await open('Words');
      assert.deepEqual(shown((await words.run({ x: floats([1]) })).outputs), {
        output_0: [[], ['über']],
        'output_1.0': [[], ['a']],
        'output_1.1': [[], ['b']],
      });
    });

    it('only the outputs asked for, also where a run decides which there are', async () => {
      const session = await open('Nested');
      const x = floats([1, 2, 3, 4], [2, 2]);
      const { outputs } = await session.run({ x }, { outputs: ['output_0.1', 'output_2'] });
      assert.deepEqual(Object.keys(outputs).toSorted(), ['output_0.1', 'output_2']);
      await rejects(
        session.run({ x }, { outputs: ['output_0.7'] }),
        'ERR_INFERKV_OUTPUT_UNKNOWN',
        /output_0\.7.*output_0\.1/,
      );
      await rejects(session.run({ x }, { outputs: ['other'] }), 'ERR_INFERKV_OUTPUT_UNKNOWN', /other/);
    });

    it('bfloat16 as float32, views with their strides, and says what it has no arrays for', async () => {
      const session = await open('Kinds');
      const run = async (kind: string): Promise<object> =>
        shown((await session.run({ x: floats([1, 2, 3, 4]), kind: text(kind) })).outputs);
      assert.deepEqual(await run('bfloat16'), { output: [[4], [1, 2, 3, 4]] });
      assert.deepEqual(await run('transposed'), {
        output: [
          [2, 2],
          [1, 3, 2, 4],
        ],
      });
      for (const [kind, says] of [
        ['complex', /Complex/],
        ['sparse', /sparse/],
        ['quantized', /quantized/],
      ] as const) {
        await rejects(run(kind), 'ERR_INFERKV_ENGINE_FAILED', says);
      }
    });

    it('nothing at all, where a method takes nothing', async () => {
      assert.deepEqual(shown((await (await open('Nothing')).run({})).outputs), { output: [[2], [1, 1]] });
    });
  });

  describe('are loaded', () => {
    it('by a method, also of a submodule, frozen or not', async () => {
      const x = floats([1, 2, 3]);
      for (const [settings, expected] of [
        [{}, [2, 6, 10]],
        [{ method: 'encode' }, [10, 20, 30]],
        [{ method: 'block' }, [1, 3, 5]],
        [{ method: 'block.backward_of' }, [1, 1, 1]],
        [{ freeze: true }, [2, 6, 10]],
        [{ optimizeForInference: true }, [2, 6, 10]],
        [{ freeze: true, method: 'encode' }, [10, 20, 30]],
        [{ optimizeForInference: true, method: 'encode' }, [10, 20, 30]],
      ] as const) {
        const session = await open('Methods', settings);
        assert.deepEqual(
          shown((await session.run({ x })).outputs),
          { output: [[3], expected] },
          JSON.stringify(settings),
        );
      }
    });

    it('for evaluation, although they were saved in training', async () => {
      const session = await open('Training');
      const x = floats(
        Array.from({ length: 8 }, () => 1),
        [2, 4],
      );
      const [first, second] = [await session.run({ x }), await session.run({ x })];
      assert.deepEqual(first.outputs, second.outputs);
      for (const value of first.outputs['output']?.data ?? []) assert.ok(Math.abs(Number(value) - 1) < 1e-4);
    });

    it('with their weights in memory once, however many sessions and threads use them', async () => {
      const shared = await open('Linear', {}, { workers: 3 });
      const { sizeBytes } = artifactIn(folder, 'size.pt', torchModel('Linear'));
      const workerBytes = shared.sizeBytes - sizeBytes;
      const single = await open('Linear', {}, { workers: 1 });
      assert.equal(3 * (single.sizeBytes - sizeBytes), workerBytes);
      // What changes itself in its runs cannot be shared.
      const own = await open('Counting', {}, { workers: 2 });
      assert.ok(own.sizeBytes > 2 * (single.sizeBytes - sizeBytes));
    });

    it('not with settings that are none, a method that does not exist, or arguments that tensors cannot be', async () => {
      for (const [name, settings, code, says] of [
        ['Methods', { method: 'nope' }, 'ERR_INFERKV_CONFIG_INVALID', /nope/],
        ['Methods', { method: 'nope.forward' }, 'ERR_INFERKV_CONFIG_INVALID', /nope/],
        ['Methods', { method: '../x' }, 'ERR_INFERKV_CONFIG_INVALID', /method/],
        ['Methods', { colour: 'red' }, 'ERR_INFERKV_CONFIG_INVALID', /colour/],
        ['Methods', { inputs: [{ name: 'y' }] }, 'ERR_INFERKV_CONFIG_INVALID', /"y".*there are: x/],
        ['Methods', { outputs: [{ name: 'a' }, { name: 'b' }] }, 'ERR_INFERKV_CONFIG_INVALID', /"b"/],
        ['Methods', { inputs: [{ name: 'x', type: 'float8' }] }, 'ERR_INFERKV_CONFIG_INVALID', /type/],
        ['Unsupported', {}, 'ERR_INFERKV_ARTIFACT_INVALID', /List\[List\[Tensor\]\]/],
        ['StateDict', {}, 'ERR_INFERKV_ARTIFACT_INVALID', /torch\.jit\.script/],
      ] as const) {
        await rejects(open(name, settings), code, says);
      }
    });
  });

  describe('do no harm', () => {
    it('to inputs that they write to, in whoever’s memory those lie', async () => {
      const session = await open('InPlace');
      const data = new Float32Array(new SharedArrayBuffer(12));
      data.set([1, 2, 3]);
      const { outputs } = await session.run({ x: { type: 'float32', shape: [3], data } });
      assert.deepEqual(shown(outputs), { output: [[1], [4]] });
      assert.deepEqual([...data], [1, 2, 3]);
    });

    it('to others when they keep what they were given', async () => {
      const session = await open('Counting');
      let total = 0;
      for (let run = 1; run <= 20; run++) {
        total += run;
        const { outputs } = await session.run({ x: floats([run]) });
        // The memory that the last input lay in is another one's by now.
        assert.deepEqual(shown(outputs), {
          output_0: [[1], [run - 1]],
          output_1: [[1], [total]],
          output_2: [[], [BigInt(run)]],
        });
      }
    });

    it('when they fail: with the reason, and without the paths of the machine they were made on', async () => {
      const session = await open('Raising');
      for (const [how, says] of [
        ['raise', /ValueError: as it was told$/],
        ['assert', /never so few$/],
        ['huge', /can't allocate memory/],
        ['index', /index 100 is? ?out of range|index 100 out of range/],
        ['shape', /matrix/],
      ] as const) {
        await assert.rejects(session.run({ x: floats([1, 2]), how: text(how) }), (error: Error & { code?: string }) => {
          assert.equal(error.code, 'ERR_INFERKV_ENGINE_FAILED');
          assert.match(error.message, says);
          assert.doesNotMatch(error.message, /\.py|line \d|__torch__/);
          return true;
        });
      }
    });
  });
});

describe('TorchScript in a repository', { skip: torchAbsent() }, () => {
  const forward = {
    session: { engine: { inputs: [{ name: 'x', type: 'float32', shape: ['N'] }], outputs: [{ name: 'y' }] } },
  };

  it('lies beside ONNX and is served the same way', async () => {
    await using served = await serving({
      'torch/1/model.pt': torchModel('scaling-2'),
      'torch/inferkv.json': JSON.stringify(forward),
      'plain/1/model.pt': torchModel('Words'),
      'onnx/1/model.onnx': scaling(3),
    });
    const { client } = served;
    assert.deepEqual(await client.get('v2/models/torch'), {
      name: 'torch',
      versions: ['1'],
      platform: 'pytorch_torchscript',
      inputs: [{ name: 'x', datatype: 'FP32', shape: [-1] }],
      outputs: [{ name: 'y', datatype: 'ANY', shape: [-1] }],
    });
    for (const [name, expected] of [
      ['torch', [2, 4]],
      ['onnx', [3, 6]],
    ] as const) {
      const { outputs } = await client.infer(name, [protocolFloats('x', [1, 2])]);
      assert.deepEqual(outputs[0]?.values, expected);
    }
    const { platform, inputs } = await client.get<{ platform: string; inputs: object[] }>('v2/models/plain');
    assert.deepEqual([platform, inputs], ['pytorch_torchscript', [{ name: 'x', datatype: 'ANY', shape: [-1] }]]);
  });

  it('gives its results to the cache like any other, and keeps them apart by method', async () => {
    using folder = new TempFolder();
    folder.write('a/1/model.pt', torchModel('Methods'));
    folder.write('b/1/model.pt', torchModel('Methods'));
    folder.write('b/inferkv.json', JSON.stringify({ session: { engine: { method: 'encode' } } }));
    await using cache = createInferenceCache({ repository: folder.path });
    const x = floats([1, 2, 3]);
    for (const status of ['miss', 'hit']) {
      const [a, b] = [await cache.model('a').run({ x }), await cache.model('b').run({ x })];
      assert.deepEqual([a.cache.status, b.cache.status], [status, status]);
      assert.deepEqual(
        [shown(a.outputs), shown(b.outputs)],
        [{ output: [[3], [2, 6, 10]] }, { output: [[3], [10, 20, 30]] }],
      );
    }
  });

  it('is chosen by the settings where both formats lie in one place; else ONNX is', async () => {
    using folder = new TempFolder();
    for (const name of ['both', 'torch']) {
      folder.write(`${name}/1/model.onnx`, scaling(3));
      folder.write(`${name}/1/model.pt`, torchModel('scaling-2'));
    }
    folder.write('torch/inferkv.json', JSON.stringify({ engine: 'torchscript', ...forward }));
    await using cache = createInferenceCache({ repository: folder.path });
    const run = async (name: string): Promise<unknown> =>
      shown((await cache.model(name).run({ x: floats([1]) })).outputs);
    assert.deepEqual([await run('both'), await run('torch')], [{ y: [[1], [3]] }, { y: [[1], [2]] }]);
  });

  it('is not loaded from outside, by whatever way it is reached', async () => {
    using outside = new TempFolder();
    using folder = new TempFolder();
    outside.write('1/model.pt', torchModel('scaling-2'));
    symlinkSync(outside.path, folder.at('linked'));
    folder.write('file/1/other.txt', '');
    symlinkSync(outside.at('1', 'model.pt'), folder.at('file', '1', 'model.pt'));
    folder.write('inside/1/model.pt', torchModel('scaling-2'));
    symlinkSync(folder.at('inside'), folder.at('moved'));
    await using cache = createInferenceCache({ repository: folder.path });
    for (const name of ['linked', 'file']) {
      await rejects(cache.model(name).run({ x: floats([1]) }), 'ERR_INFERKV_ARTIFACT_INVALID', /only linked to/);
    }
    await rejects(cache.model('../1/model').run({ x: floats([1]) }), 'ERR_INFERKV_MODEL_NAME_INVALID');
    const { outputs } = await cache.model('moved').run({ x: floats([1]) });
    assert.ok(!isStrings(outputs['output']?.data ?? []));
  });
});
