import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import type { Tensor, Tensors } from '../../src/base/tensor.ts';
import type { RunOptions, Session, SessionOptions } from '../../src/engines/engine.ts';
import { TorchScriptEngine } from '../../src/engines/torchscript/engine.ts';
import { createInferenceCache } from '../../src/index.ts';
import { artifactIn } from '../support/artifact.ts';
import { rejects } from '../support/rejects.ts';
import { TempFolder } from '../support/temp.ts';
import { torchAbsent, torchModel } from '../support/torchscript.ts';

const floats = (values: readonly number[], shape: readonly number[] = [values.length]): Tensor => ({
  type: 'float32',
  shape,
  data: Float32Array.from(values),
});
const shared = (...values: number[]): Tensor & { readonly data: Float32Array } => {
  const data = new Float32Array(new SharedArrayBuffer(4 * values.length));
  data.set(values);
  return { type: 'float32', shape: [values.length], data };
};
const flag = (value: boolean): Tensor => ({ type: 'bool', shape: [], data: Uint8Array.of(Number(value)) });
const integer = (value: number): Tensor => ({ type: 'int64', shape: [], data: BigInt64Array.of(BigInt(value)) });

/** Models that do to their inputs, to themselves or to the process what a model should not. */
describe('TorchScript models that misbehave', { skip: torchAbsent() }, () => {
  let folder: TempFolder;
  const engine = new TorchScriptEngine();
  const sessions: Session[] = [];
  const open = async (name: string, settings: object = {}, options: SessionOptions = {}): Promise<Session> => {
    const artifact = artifactIn(folder, `${name}.pt`, torchModel(name));
    const session = await engine.load(artifact, { ...options, engine: { ...settings } });
    sessions.push(session);
    return session;
  };
  const values = async (session: Session, inputs: Tensors, options?: RunOptions): Promise<readonly unknown[]> =>
    Object.values((await session.run(inputs, options)).outputs).map(({ data }) => [...data]);

  before(() => {
    folder = new TempFolder();
  });
  after(async () => {
    await Promise.all(sessions.map((session) => session.close()));
    folder[Symbol.dispose]();
  });

  it('do not read what others put where their input lay, also when they failed with it', async () => {
    const keeping = await open('KeepingAndRaising');
    const other = await open('scaling-2');
    const given = shared(1, 1, 1);
    await rejects(keeping.run({ x: given, fail: flag(true) }), 'ERR_INFERKV_ENGINE_FAILED', /kept/);
    given.data.fill(4242);
    assert.deepEqual(await values(keeping, { x: floats([0]), fail: flag(false) }), [[1, 1, 1]]);
    await rejects(keeping.run({ x: floats([2, 2, 2]), fail: flag(true) }), 'ERR_INFERKV_ENGINE_FAILED', /kept/);
    for (let run = 0; run < 5; run++) await other.run({ x: floats([99, 99, 99]) });
    assert.deepEqual(await values(keeping, { x: floats([0]), fail: flag(false) }), [[2, 2, 2]]);
  });

  for (const [name, input, first, second] of [
    ['BufferChanging', floats([5]), [5], [10]],
    ['ElementChanging', floats([5]), [5], [5]],
    ['NumbersGrowing', floats([5]), [1n], [2n]],
    ['ObjectChanging', floats([5]), [1n], [2n]],
  ] as const) {
    it(`are nobody else's if their runs change them: ${name}`, async () => {
      const [one, two] = [await open(name), await open(name)];
      assert.equal(one.metadata.stateful, true);
      assert.deepEqual(await values(one, { x: input }), [first]);
      assert.deepEqual(await values(one, { x: input }), [second]);
      assert.deepEqual(await values(two, { x: input }), [first]);
      assert.equal((await two.run({ x: input })).reusable, false);
    });
  }

  it("are nobody else's if they learn statistics in their runs", async () => {
    const [one, two] = [await open('StatisticsLearning'), await open('StatisticsLearning')];
    const x = floats([1, 2, 3, 4], [2, 2]);
    const fresh = await values(one, { x });
    assert.notDeepEqual(await values(one, { x }), fresh);
    assert.deepEqual(await values(two, { x }), fresh);
  });

  it('are shared where only another method changes them, or only training does', async () => {
    const pure = await open('BufferChanging', { method: 'pure' });
    assert.equal(pure.metadata.stateful, undefined);
    const resting = await open('Resting', {}, { workers: 2 });
    assert.equal(resting.metadata.stateful, undefined);
    const single = await open('Resting');
    assert.ok(resting.sizeBytes < 2 * single.sizeBytes);
  });

  it('have no answers kept that depend on earlier runs', async () => {
    using repository = new TempFolder();
    repository.write('counting/1/model.pt', torchModel('NumbersGrowing'));
    await using cache = createInferenceCache({ repository: repository.path });
    const runs: unknown[] = [];
    for (let run = 0; run < 3; run++) {
      const { outputs, cache: report } = await cache.model('counting').run({ x: floats([1]) });
      runs.push([report.status, outputs['output']?.data[0]]);
    }
    assert.deepEqual(runs, [
      ['miss', 1n],
      ['miss', 2n],
      ['miss', 3n],
    ]);
  });

  it('do not write to inputs that lie in lists, dictionaries and tuples', async () => {
    const session = await open('InPlaceInside');
    const inputs = { 'xs.0': shared(1), 'by_name.a': shared(2), 'pair.0': shared(3), 'pair.1': shared(4) };
    assert.deepEqual(await values(session, inputs), [[8]]);
    assert.deepEqual(
      Object.values(inputs).map(({ data }) => data[0]),
      [1, 2, 3, 4],
    );
  });

  it('do not end the process by dividing by zero', async () => {
    const session = await open('Modulo');
    const run = (n: number): Promise<readonly unknown[]> => values(session, { x: floats([2]), n: integer(n) });
    for (let round = 0; round < 3; round++) {
      await rejects(run(0), 'ERR_INFERKV_ENGINE_FAILED', /ZeroDivisionError/);
      await rejects(run(100), 'ERR_INFERKV_ENGINE_FAILED', /division by 0/);
      assert.deepEqual([await run(3), await run(102)], [[[4]], [[4]]]);
    }
  });

  it('do not end the process by thousands of operations in a row', async () => {
    const session = await open('Deep');
    assert.deepEqual(await values(session, { x: floats([1]) }), [[4001]]);
  });

  it('write to memory that is handed in without spoiling outputs that are views of it', async () => {
    const session = await open('ReturnsInput');
    const x = shared(1, 2);
    const { outputs } = await session.run({ x }, { into: { output_0: x } });
    assert.deepEqual(Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, [...data]])), {
      output_0: [2, 3],
      output_1: [1, 2],
    });
  });

  it('may call their outputs what they like', async () => {
    const session = await open('OddKeys');
    const { outputs } = await session.run({ x: floats([1]) }, { into: { toString: floats([0]) } });
    assert.deepEqual(Object.keys(outputs).toSorted(), ['__proto__', 'constructor', 'toString']);
  });

  it('say which part of an argument is missing, and take what may be', async () => {
    const session = await open('OptionalPairs');
    const x = floats([1]);
    assert.deepEqual(await values(session, { x }), [[1]]);
    assert.deepEqual(await values(session, { x, 'p.0': x, 'p.1': x, 'q.0': x }), [[4]]);
    await rejects(session.run({ x, 'p.0': x }), 'ERR_INFERKV_INPUT_MISSING', /p\.1/);
    // What tensors cannot be, and has a default, is left to the model.
    const device = await open('Device');
    assert.deepEqual(
      device.metadata.inputs.map(({ name }) => name),
      ['x'],
    );
    assert.deepEqual(await values(device, { x }), [[1]]);
  });

  it('are not given two outputs of one name', async () => {
    for (const outputs of [[{ name: 'output_1' }], [{ name: 'a' }, { name: 'a' }]]) {
      await rejects(open('TwoByTwo', { outputs }), 'ERR_INFERKV_CONFIG_INVALID', /two the name/);
    }
    await rejects(open('TwoByTwo', { inputs: [{ name: 'a' }, { name: 'a' }] }), 'ERR_INFERKV_CONFIG_INVALID', /"a"/);
  });

  it('are frozen and optimised by whatever path they are named', async () => {
    for (const method of ['block', 'block.forward']) {
      for (const settings of [{ freeze: true }, { optimizeForInference: true }]) {
        assert.deepEqual(await values(await open('Methods', { method, ...settings }), { x: floats([1, 2, 3]) }), [
          [1, 3, 5],
        ]);
      }
    }
  });
});
