import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import type { ErrorCode } from '../../src/base/errors.ts';
import {
  byteLengthOf,
  isStrings,
  numericView,
  type Tensor,
  type Tensors,
  type TensorType,
} from '../../src/base/tensor.ts';
import type { Engine, RunOptions, Session, SessionOptions } from '../../src/engines/engine.ts';
import { artifactIn } from '../support/artifact.ts';
import { TempFolder } from '../support/temp.ts';
import { rejects } from '../support/rejects.ts';

/** A model's file, with what its settings have to say of it. */
export interface ContractModel {
  readonly content: Uint8Array;
  readonly engine?: Readonly<Record<string, unknown>>;
}

type Shape = readonly (number | string)[];

/** The models that an engine is put to the test with, in its own format. All inputs and outputs are float32 unless said. */
export interface ContractModels {
  /** The ending of its files, with the dot. */
  readonly ending: string;
  /** The element types that it has tensors of, but for strings. */
  readonly types: readonly Exclude<TensorType, 'string'>[];
  /** `y` is `x`, of the type, over `[N, 3]` if no shape is given. */
  identity(type: TensorType, shape?: Shape): ContractModel;
  /** `y = x * factor` over `[N]`, for factors from 1 to 5. */
  scaling(factor: 1 | 2 | 3 | 4 | 5): ContractModel;
  /** `sum = a + b` and `difference = a - b` over `[N, 2]`. */
  twoByTwo(): ContractModel;
  /** `y` is `x` where that is positive, over `[2, 2]`. */
  fixedShape(): ContractModel;
  /** `places` are those of the elements of `x` [N] that are not zero, int64 `[1, found]`. */
  nonZero(): ContractModel;
  /** `y` is `x` [N] in the shape that `to` (int64 `[rank]`) says; fails where that does not fit. */
  failing(): ContractModel;
  /** A run of some hundred milliseconds over `x` [768, 768]; `y` is a scalar. */
  slow(): ContractModel;
}

/** Opens a model with an engine, and closes it with the scope. */
export type Open = (model: ContractModel, options?: SessionOptions) => Promise<Session>;

export const floats = (...values: number[]): Tensor => ({
  type: 'float32',
  shape: [values.length],
  data: Float32Array.from(values),
});

export const numbers = (tensors: Tensors, name: string): readonly unknown[] => {
  const tensor = tensors[name];
  assert.ok(tensor !== undefined, `there is no ${name}`);
  return [...tensor.data];
};

interface DescribeOptions {
  readonly skip?: string | false;
  /** Tests of what only models of this format have. */
  readonly further?: (open: Open) => void;
}

/** What every engine owes to whoever uses it (src/engines/engine.ts). */
export function describeEngine(
  name: string,
  makeEngine: () => Engine,
  models: ContractModels,
  { skip = false, further }: DescribeOptions = {},
): void {
  describe(`engine ${name}`, { skip }, () => {
    let folder: TempFolder;
    let engine: Engine;
    const sessions: Session[] = [];
    const open: Open = async ({ content, engine: settings }, options = {}) => {
      const artifact = artifactIn(folder, `${sessions.length}${models.ending}`, content);
      const session = await engine.load(artifact, { ...options, ...(settings !== undefined && { engine: settings }) });
      sessions.push(session);
      return session;
    };

    before(() => {
      folder = new TempFolder();
      engine = makeEngine();
    });

    after(async () => {
      await Promise.all(sessions.map((session) => session.close()));
      folder[Symbol.dispose]();
    });

    it('says what it is', () => {
      assert.match(engine.name, /^[a-z]+$/);
      assert.match(engine.version, /^\d+\.\d+/);
      assert.ok(engine.extensions.every((extension) => extension.startsWith('.')));
    });

    describeTypes(open, models);
    describeOutputs(open, models);
    describeBadInput(open, models);
    describeLife(open, models);
    further?.(open);

    it('does not load what is no model', async () => {
      await rejects(open({ content: Buffer.from('not a model') }), 'ERR_INFERKV_ARTIFACT_INVALID');
      await rejects(open({ content: models.scaling(1).content.subarray(0, 40) }), 'ERR_INFERKV_ARTIFACT_INVALID');
    });

    it('does not load a file that changed since it was named, or is gone', async () => {
      const fileName = `changed${models.ending}`;
      // Contents of their own: what the process holds already is not read again.
      const artifact = artifactIn(folder, fileName, models.scaling(4).content);
      folder.write(fileName, models.scaling(5).content);
      await rejects(engine.load(artifact), 'ERR_INFERKV_ARTIFACT_CHANGED');
      const [file] = artifact.files;
      assert.ok(file !== undefined);
      const gone = { ...artifact, files: [{ ...file, path: folder.at('gone') }] };
      await rejects(engine.load(gone), 'ERR_INFERKV_ARTIFACT_MISSING');
    });

    it('turns away settings that make no sense', async () => {
      for (const options of [{ threads: 0 }, { workers: 1.5 }, { maxQueue: -1 }, { threads: Number.NaN }]) {
        await rejects(
          open(models.scaling(1), options),
          'ERR_INFERKV_CONFIG_INVALID',
          new RegExp(Object.keys(options).join('')),
        );
      }
    });
  });
}

function describeTypes(open: Open, models: ContractModels): void {
  for (const type of models.types) {
    it(`runs ${type}: bytes in, the same bytes out, over every kind of shape`, async () => {
      const session = await open(models.identity(type));
      const spec = { type, shape: ['N', 3] };
      assert.deepEqual(session.metadata, { inputs: [{ name: 'x', ...spec }], outputs: [{ name: 'y', ...spec }] });
      for (const rows of [2, 1, 0, 2]) {
        const x = patterned(type, [rows, 3]);
        const { outputs } = await session.run({ x });
        assert.deepEqual(outputs['y'], x);
      }
    });
  }

  it('runs scalars', async () => {
    const session = await open(models.identity('float32', []));
    assert.deepEqual(
      (await session.run({ x: { type: 'float32', shape: [], data: Float32Array.of(7) } })).outputs['y']?.shape,
      [],
    );
  });

  it('lets infinities and NaNs through, bit for bit', async () => {
    const session = await open(models.identity('float32', ['N']));
    const bits = Uint32Array.of(0x7fc00001, 0xffc12345, 0x7f800000, 0xff800000, 0x80000000, 1);
    const { outputs } = await session.run({ x: { type: 'float32', shape: [6], data: new Float32Array(bits.buffer) } });
    const y = outputs['y'];
    assert.ok(y !== undefined && !isStrings(y.data));
    assert.deepEqual(new Uint32Array(y.data.buffer, y.data.byteOffset, 6), bits);
  });

  it('reads inputs that lie in shared memory', async () => {
    const session = await open(models.scaling(2));
    const data = new Float32Array(new SharedArrayBuffer(64), 16, 3);
    data.set([1, 2, 3]);
    assert.deepEqual(
      numbers((await session.run({ x: { type: 'float32', shape: [3], data } })).outputs, 'y'),
      [2, 4, 6],
    );
  });

  it('takes inputs as they are when it is called, and leaves them as they are', async () => {
    const session = await open(models.scaling(2));
    const x = floats(1, 2, 3);
    const running = session.run({ x });
    (x.data as Float32Array).fill(9);
    assert.deepEqual(numbers((await running).outputs, 'y'), [2, 4, 6]);
    assert.deepEqual(numbers({ x }, 'x'), [9, 9, 9]);
  });
}

/** A tensor whose bytes are all different, as far as the type allows. */
function patterned(type: Exclude<TensorType, 'string'>, shape: readonly number[]): Tensor {
  const buffer = new ArrayBuffer(byteLengthOf(type, shape));
  const bytes = new Uint8Array(buffer);
  // A bool is 0 or 1; floats must not be NaNs, which compare by value.
  for (let i = 0; i < bytes.length; i++) bytes[i] = type === 'bool' ? i % 2 : 1 + (i % 60);
  return { type, shape, data: numericView(type, shape, buffer) };
}

function describeOutputs(open: Open, models: ContractModels): void {
  const ab = { a: { ...floats(1, 2), shape: [1, 2] }, b: { ...floats(10, 20), shape: [1, 2] } };

  it('fetches only the outputs that are asked for', async () => {
    const session = await open(models.twoByTwo());
    assert.deepEqual(Object.keys((await session.run(ab)).outputs).toSorted(), ['difference', 'sum']);
    const { outputs } = await session.run(ab, { outputs: ['difference', 'difference'] });
    assert.deepEqual(Object.keys(outputs), ['difference']);
    assert.deepEqual(numbers(outputs, 'difference'), [-9, -18]);
  });

  it('gives each run memory of its own', async () => {
    const session = await open(models.fixedShape());
    const run = (first: number): Promise<{ outputs: Tensors }> =>
      session.run({ x: { ...floats(first, 2, 3, 4), shape: [2, 2] } });
    const [one, two] = await Promise.all([run(1), run(9)]);
    (two.outputs['y']?.data as Float32Array).fill(0);
    assert.deepEqual(numbers(one.outputs, 'y'), [1, 2, 3, 4]);
    const three = await run(5);
    (one.outputs['y']?.data as Float32Array).fill(0);
    assert.deepEqual(numbers(three.outputs, 'y'), [5, 2, 3, 4]);
  });

  for (const [kind, make] of [
    ['plain', (bytes: number) => new ArrayBuffer(bytes)],
    ['shared', (bytes: number) => new SharedArrayBuffer(bytes)],
  ] as const) {
    it(`writes outputs into ${kind} memory that is handed in`, async () => {
      for (const model of [models.fixedShape(), models.identity('float32', ['N', 2])]) {
        const session = await open(model);
        const x = { ...floats(1, 2, 3, 4), shape: [2, 2] };
        const data = new Float32Array(make(4 * 7), 4, 5);
        for (let round = 1; round <= 3; round++) {
          (x.data as Float32Array)[0] = round;
          const { outputs } = await session.run({ x }, { into: { y: { type: 'float32', shape: [5], data } } });
          assert.equal((outputs['y']?.data as Float32Array).buffer, data.buffer);
          assert.deepEqual(outputs['y']?.shape, [2, 2]);
          // What lies behind the output is not touched.
          assert.deepEqual([...data], [round, 2, 3, 4, 0]);
        }
      }
    });
  }

  it('leaves memory alone that an output does not fit into', async () => {
    const session = await open(models.fixedShape());
    const x = { ...floats(1, 2, 3, 4), shape: [2, 2] };
    for (const y of [floats(0, 0, 0), { type: 'int32', shape: [4], data: new Int32Array(4) } as const]) {
      const { outputs } = await session.run({ x }, { into: { y } });
      assert.deepEqual(numbers(outputs, 'y'), [1, 2, 3, 4]);
      assert.ok([...y.data].every((each) => each === 0));
    }
  });

  it('gives outputs whose shapes follow from values', async () => {
    const session = await open(models.nonZero());
    for (const values of [
      [0, 1, 0, 2],
      [1, 1, 1, 1],
      [0, 0, 0, 0],
      [0, 1, 0, 2],
    ]) {
      const { outputs } = await session.run({ x: floats(...values) });
      const places = values.flatMap((each, at) => (each === 0 ? [] : [BigInt(at)]));
      assert.deepEqual(outputs['places']?.shape, [1, places.length]);
      assert.deepEqual(numbers(outputs, 'places'), places);
    }
  });
}

function describeBadInput(open: Open, models: ContractModels): void {
  const x = { ...floats(1, 2, 3), shape: [1, 3] };
  const cases: readonly (readonly [string, unknown, ErrorCode, RegExp, RunOptions?])[] = [
    ['no inputs', {}, 'ERR_INFERKV_INPUT_MISSING', /"x"/],
    ['another input', { x, z: x }, 'ERR_INFERKV_INPUT_UNKNOWN', /"z".*"x"/],
    ['an input of the prototype', { x, toString: x }, 'ERR_INFERKV_INPUT_UNKNOWN', /toString/],
    [
      'another type',
      { x: { type: 'int32', shape: [1, 3], data: new Int32Array(3) } },
      'ERR_INFERKV_INPUT_INVALID',
      /int32.*float32/,
    ],
    ['another rank', { x: floats(1, 2, 3) }, 'ERR_INFERKV_INPUT_INVALID', /\[3\].*\[N, 3\]/],
    ['another size', { x: { ...floats(1, 2), shape: [1, 2] } }, 'ERR_INFERKV_INPUT_INVALID', /\[1, 2\].*\[N, 3\]/],
    ['too few elements', { x: { ...x, data: new Float32Array(2) } }, 'ERR_INFERKV_INPUT_INVALID', /2 elements.*3/],
    ['too many elements', { x: { ...x, data: new Float32Array(4) } }, 'ERR_INFERKV_INPUT_INVALID', /4 elements/],
    ['a huge shape', { x: { ...x, shape: [2 ** 52, 3] } }, 'ERR_INFERKV_INPUT_INVALID', /too large/],
    ['a huge but possible shape', { x: { ...x, shape: [2 ** 40, 3] } }, 'ERR_INFERKV_INPUT_INVALID', /elements/],
    ['NaN as a size', { x: { ...x, shape: [Number.NaN, 3] } }, 'ERR_INFERKV_INPUT_INVALID', /whole numbers/],
    ['a negative size', { x: { ...x, shape: [-1, 3] } }, 'ERR_INFERKV_INPUT_INVALID', /whole numbers/],
    ['a broken size', { x: { ...x, shape: [1.5, 3] } }, 'ERR_INFERKV_INPUT_INVALID', /whole numbers/],
    ['a plain array as data', { x: { ...x, data: [1, 2, 3] } }, 'ERR_INFERKV_INPUT_INVALID', /Float32Array/],
    ['no tensor', { x: 5 }, 'ERR_INFERKV_INPUT_INVALID', /object/],
    ['nothing', { x: undefined }, 'ERR_INFERKV_INPUT_INVALID', /"x"/],
    ['an unknown type', { x: { ...x, type: 'float8' } }, 'ERR_INFERKV_INPUT_INVALID', /float8/],
    ['null for inputs', null, 'ERR_INFERKV_INPUT_INVALID', /inputs/],
    ['an unknown output', { x }, 'ERR_INFERKV_OUTPUT_UNKNOWN', /"z".*"y"/, { outputs: ['z'] }],
    ['no outputs', { x }, 'ERR_INFERKV_OUTPUT_UNKNOWN', /at least one/, { outputs: [] }],
    ['memory for an unknown output', { x }, 'ERR_INFERKV_OUTPUT_UNKNOWN', /"z"/, { into: { z: x } }],
    ['memory that is none', { x }, 'ERR_INFERKV_INPUT_INVALID', /"y"/, { into: { y: 5 as unknown as Tensor } }],
  ];

  it('turns away what the model does not take, each with its code, and goes on', async () => {
    const session = await open(models.identity('float32'));
    for (const [what, inputs, code, says, options] of cases) {
      await rejects(session.run(inputs as Tensors, options), code, says).catch((error: unknown) => {
        throw new Error(`for ${what}`, { cause: error });
      });
    }
    assert.deepEqual(numbers((await session.run({ x })).outputs, 'y'), [1, 2, 3]);
  });

  it('turns away a symbolic dimension that is two sizes at once', async () => {
    const session = await open(models.twoByTwo());
    const inputs = { a: { ...floats(1, 2), shape: [1, 2] }, b: { ...floats(1, 2, 3, 4), shape: [2, 2] } };
    await rejects(session.run(inputs), 'ERR_INFERKV_INPUT_INVALID', /"N"/);
  });

  it('fails alone when the run fails', async () => {
    const session = await open(models.failing());
    const run = (...to: bigint[]): Promise<unknown> =>
      session.run({ x: floats(1, 2, 3, 4), to: { type: 'int64', shape: [to.length], data: BigInt64Array.from(to) } });
    const bad = rejects(run(3n, 3n), 'ERR_INFERKV_ENGINE_FAILED');
    await Promise.all([run(2n, 2n), bad, run(4n, 1n)]);
    await run(1n, 4n);
  });
}

function describeLife(open: Open, models: ContractModels): void {
  // Different each time: an engine that keeps results answers what it was asked before without a run.
  let filling = 0;
  const matrix = (): Tensor => ({
    type: 'float32',
    shape: [768, 768],
    data: new Float32Array(768 * 768).fill(++filling / 1e6),
  });

  it('answers many at once, each with its own', async () => {
    const session = await open(models.scaling(3), { workers: 2 });
    const answers = await Promise.all(Array.from({ length: 200 }, (_, at) => session.run({ x: floats(at, -at) })));
    for (const [at, { outputs, computeMs }] of answers.entries()) {
      assert.deepEqual(numbers(outputs, 'y'), [3 * at, -3 * at]);
      assert.ok(computeMs >= 0);
    }
  });

  it('refuses what would make its queue too long, and goes on', async () => {
    const session = await open(models.slow(), { maxQueue: 1 });
    const first = session.run({ x: matrix() });
    const second = session.run({ x: matrix() });
    await rejects(session.run({ x: matrix() }), 'ERR_INFERKV_OVERLOADED', /maxQueue/);
    await Promise.all([first, second]);
  });

  it('lets callers give up: before, while waiting, during the run', async () => {
    const session = await open(models.slow());
    await rejects(session.run({ x: matrix() }, { signal: AbortSignal.abort() }), 'ERR_INFERKV_ABORTED');
    const during = new AbortController();
    const waiting = new AbortController();
    const first = rejects(session.run({ x: matrix() }, { signal: during.signal }), 'ERR_INFERKV_ABORTED');
    const second = rejects(session.run({ x: matrix() }, { signal: waiting.signal }), 'ERR_INFERKV_ABORTED');
    waiting.abort();
    await second;
    during.abort();
    await first;
    // The run that had begun ends by itself; the session is as good as before.
    assert.equal((await session.run({ x: matrix() })).outputs['y']?.shape.length, 0);
  });

  it('ends the wait at the deadline', async () => {
    const session = await open(models.slow());
    await rejects(session.run({ x: matrix() }, { deadlineMs: 1 }), 'ERR_INFERKV_DEADLINE', /1 ms/);
    await session.run({ x: matrix() }, { deadlineMs: 600_000 });
  });

  it('finishes what it accepted before it closes, and accepts nothing more', async () => {
    const session = await open(models.slow(), { workers: 2 });
    const accepted = [session.run({ x: matrix() }), session.run({ x: matrix() })];
    const closed = session.close();
    await rejects(session.run({ x: matrix() }), 'ERR_INFERKV_CLOSED');
    assert.equal((await Promise.all(accepted)).length, 2);
    await closed;
    await session.close();
  });

  it('counts the bytes it takes, more after a larger run', async () => {
    const session = await open(models.scaling(1));
    const atFirst = session.sizeBytes;
    await session.run({ x: floats(...Array.from({ length: 10_000 }, () => 1)) });
    assert.ok(session.sizeBytes >= atFirst + 40_000, `${session.sizeBytes} after ${atFirst}`);
  });
}
