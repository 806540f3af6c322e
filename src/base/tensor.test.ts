import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { isInferkvError } from './errors.ts';
import { byteLengthOf, copyTensors, numericView, tensor, tensorBytes, tensorFault } from './tensor.ts';

describe('tensors', () => {
  it('have the type of their data unless another is said', () => {
    assert.equal(tensor(Float16Array.of(1), [1]).type, 'float16');
    assert.equal(tensor(BigUint64Array.of(1n), [1]).type, 'uint64');
    assert.equal(tensor(Uint8Array.of(1), [1]).type, 'uint8');
    assert.equal(tensor(Uint8Array.of(1), [1], 'bool').type, 'bool');
    assert.equal(tensor(['a'], [1]).type, 'string');
    for (const make of [
      () => tensor(new Uint8ClampedArray(1) as never, [1]),
      () => tensor(Uint8Array.of(1), [2]),
      () => tensor(5 as never, []),
    ]) {
      assert.throws(make, (error) => isInferkvError(error, 'ERR_INFERKV_INPUT_INVALID'));
    }
  });

  it('share nothing with their copies', () => {
    const shared = new Float32Array(new SharedArrayBuffer(12), 4, 2);
    const originals = {
      a: tensor(shared, [2]),
      b: tensor(['x'], [1]),
      c: tensor(Uint8Array.of(1, 2, 3).subarray(1), [2]),
    };
    const copies = copyTensors(originals);
    assert.deepEqual(copies['c'], { type: 'uint8', shape: [2], data: Uint8Array.of(2, 3) });
    for (const name of ['a', 'b', 'c'] as const) {
      assert.notEqual(copies[name]?.shape, originals[name].shape);
      assert.notEqual(copies[name]?.data, originals[name].data);
    }
    assert.ok((copies['a']?.data as Float32Array).buffer instanceof ArrayBuffer);
  });

  it('count their bytes, those of texts on the safe side', () => {
    assert.equal(tensorBytes(tensor(new Float64Array(3), [3])), 24);
    assert.ok(tensorBytes(tensor(['☃'.repeat(100)], [1])) >= 200);
    assert.deepEqual(
      [byteLengthOf('int4', [3]), byteLengthOf('int64', [2, 2]), byteLengthOf('float32', [])],
      [2, 32, 4],
    );
    assert.equal(numericView('uint4', [5], new ArrayBuffer(3)).length, 3);
  });

  it('are checked without being trusted', () => {
    assert.equal(tensorFault({ type: 'float32', shape: [0, 5], data: new Float32Array(0) }), undefined);
    for (const [candidate, says] of [
      [null, /object/],
      [{ type: 'float32', data: new Float32Array(1) }, /no shape/],
      [{ type: 'constructor', shape: [1], data: [] }, /unknown type/],
      [{ type: 'string', shape: [1], data: [1] }, /no string/],
      [{ type: 'string', shape: [1], data: 'a' }, /array of strings/],
      [{ type: 'float32', shape: ['1'], data: new Float32Array(1) }, /whole numbers/],
      [{ type: 'float32', shape: [2 ** 31, 2 ** 31, 2 ** 31], data: new Float32Array(1) }, /too large/],
      [{ type: 'float32', shape: [1], data: new Float64Array(1) }, /Float32Array/],
    ] as const) {
      assert.match(String(tensorFault(candidate)), says);
    }
  });
});
