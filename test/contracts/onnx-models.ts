import assert from 'node:assert/strict';
import { it } from 'node:test';

import type { Tensor } from '../../src/base/tensor.ts';
import { failing, fixedShape, fourBits, identity, nonZero, scaling, slow, twoByTwo } from '../support/models.ts';
import { rejects } from '../support/rejects.ts';
import { floats, type ContractModels, type Open } from './engine.ts';

/** The contract's models in ONNX. */
export const onnxModels: ContractModels = {
  ending: '.onnx',
  types: [
    ...(['float32', 'float64', 'float16', 'int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32'] as const),
    ...(['int64', 'uint64', 'bool'] as const),
  ],
  identity: (type, shape) => ({ content: identity(type, shape) }),
  scaling: (factor) => ({ content: scaling(factor) }),
  twoByTwo: () => ({ content: twoByTwo() }),
  fixedShape: () => ({ content: fixedShape() }),
  nonZero: () => ({ content: nonZero() }),
  failing: () => ({ content: failing() }),
  slow: () => ({ content: slow() }),
};

/** What ONNX has beyond the contract: tensors of strings, and 4-bit numbers. */
export function furtherOnnx(open: Open): void {
  it('runs strings', async () => {
    const session = await open({ content: identity('string') });
    const x: Tensor = { type: 'string', shape: [1, 3], data: ['', 'naïve ☃', 'x'.repeat(10_000)] };
    assert.deepEqual((await session.run({ x })).outputs['y'], x);
  });

  it('turns away strings with anything among them that is no string', async () => {
    const session = await open({ content: identity('string', ['N']) });
    const data = ['a', 5 as unknown as string];
    await rejects(session.run({ x: { type: 'string', shape: [2], data } }), 'ERR_INFERKV_INPUT_INVALID');
  });

  it('turns away 4-bit numbers at its edges, which ONNX Runtime does not take from JavaScript', async () => {
    for (const type of ['int4', 'uint4'] as const) {
      const session = await open({ content: fourBits(type, 4) });
      assert.equal(session.metadata.inputs[0]?.type, type);
      const x: Tensor = { type, shape: [4], data: Uint8Array.of(0x21, 0x43) };
      await rejects(session.run({ x, y: floats(1, 2, 3, 4) }), 'ERR_INFERKV_ENGINE_FAILED', /not supported/);
    }
  });
}
