import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { isInferkvError } from '../base/errors.ts';
import type { Tensors } from '../base/tensor.ts';
import type { SessionMetadata } from './engine.ts';
import { checkInputs, checkOutputs, inputSpec } from './run-check.ts';

const one = { type: 'float32', shape: [1], data: Float32Array.of(1) } as const;
const metadata: SessionMetadata = {
  inputs: [
    { name: 'x', type: 'any', shape: 'any' },
    { name: 'xs.*', type: 'float32', shape: ['N'], many: 'list' },
    { name: 'state.*', type: 'any', shape: 'any', many: 'map', optional: true },
    { name: 'mask', type: 'bool', shape: [1], optional: true },
  ],
  outputs: [
    { name: 'y', type: 'any', shape: 'any' },
    { name: 'hidden.*', type: 'any', shape: 'any', many: 'map' },
  ],
};

const fails = (inputs: Tensors, code: string, says: RegExp): void =>
  assert.throws(
    () => checkInputs(inputs, metadata),
    (error) => isInferkvError(error) && error.code === code && says.test(error.message),
  );

describe('inputs of a model that does not say all about them', () => {
  it('may be of any type and shape, left out, and many', () => {
    for (const inputs of [
      { x: one },
      { x: { type: 'string', shape: [], data: ['text'] } as const },
      { x: one, 'xs.0': one, 'xs.1': one, 'state.deep.er': one },
      { x: one, mask: { type: 'bool', shape: [1], data: Uint8Array.of(1) } as const },
    ]) {
      checkInputs(inputs, metadata);
    }
  });

  it('have to suit what it does say', () => {
    fails({}, 'ERR_INFERKV_INPUT_MISSING', /"x" \(of any type of any shape\)/);
    fails({ x: one, 'xs.1': one }, 'ERR_INFERKV_INPUT_MISSING', /"xs\.0"/);
    fails({ x: one, 'xs.0': one, 'xs.2': one }, 'ERR_INFERKV_INPUT_MISSING', /"xs\.1"/);
    fails({ x: one, 'xs.x': one }, 'ERR_INFERKV_INPUT_UNKNOWN', /"xs\.x".*"xs\.\*"/);
    fails({ x: one, 'xs.': one }, 'ERR_INFERKV_INPUT_UNKNOWN', /"xs\."/);
    fails({ x: one, mask: one }, 'ERR_INFERKV_INPUT_INVALID', /"mask".*float32.*bool/);
    fails({ x: one, 'xs.0': one, 'xs.1': { ...one, shape: [1, 1] } }, 'ERR_INFERKV_INPUT_INVALID', /"xs\.1"/);
    const two = { type: 'float32', shape: [2], data: Float32Array.of(1, 2) } as const;
    fails({ x: one, 'xs.0': one, 'xs.1': two }, 'ERR_INFERKV_INPUT_INVALID', /"N"/);
    assert.equal(inputSpec('xs.12', metadata).name, 'xs.*');
  });

  it('give outputs that only a run can tell', () => {
    assert.equal(checkOutputs(undefined, metadata), undefined);
    assert.deepEqual(checkOutputs(['y', 'hidden.3', 'y'], metadata), ['y', 'hidden.3']);
    assert.throws(
      () => checkOutputs(['hidden'], metadata),
      (error) => isInferkvError(error, 'ERR_INFERKV_OUTPUT_UNKNOWN'),
    );
    assert.deepEqual(checkOutputs(undefined, { ...metadata, outputs: metadata.outputs.slice(0, 1) }), ['y']);
  });
});
