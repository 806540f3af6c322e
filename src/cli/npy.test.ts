import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { isInferkvError } from '../base/errors.ts';
import {
  byteLengthOf,
  bytesOf,
  elementCount,
  numericView,
  tensor,
  type NumericData,
  type Tensor,
} from '../base/tensor.ts';
import { decodeNpy, encodeNpy } from './npy.ts';

const TYPES = [
  'float16',
  'float32',
  'float64',
  'int8',
  'int16',
  'int32',
  'int64',
  'uint8',
  'uint16',
  'uint32',
  'uint64',
  'bool',
] as const;

const anyTensor: fc.Arbitrary<Tensor> = fc
  .tuple(fc.constantFrom(...TYPES), fc.array(fc.nat(5), { maxLength: 4 }))
  .chain(([type, shape]) => {
    const length = byteLengthOf(type, shape);
    return fc
      .uint8Array({ minLength: length, maxLength: length })
      .map((bytes): Tensor => ({ type, shape, data: numericView(type, shape, Uint8Array.from(bytes).buffer) }));
  });

describe('.npy files', () => {
  it('decode to what was encoded', () => {
    fc.assert(
      fc.property(anyTensor, (given) => {
        const { type, shape, data } = decodeNpy('x', encodeNpy('x', given));
        assert.deepEqual([type, shape, data.length], [given.type, given.shape, elementCount(shape)]);
        assert.deepEqual(bytesOf(data as NumericData), bytesOf(given.data as NumericData));
      }),
    );
  });

  it('are aligned and written as NumPy writes them', () => {
    const bytes = encodeNpy('x', tensor(Float32Array.of(1, 2), [2]));
    assert.equal(bytes.length % 64, 8);
    assert.match(bytes.toString('latin1', 10), /^\{'descr': '<f4', 'fortran_order': False, 'shape': \(2,\), \} +\n/);
  });

  it('of a kind that is not read here are refused with a word on what to do', () => {
    const make = (header: string, data = Buffer.alloc(8)): Buffer => {
      const head = Buffer.from('\u0093NUMPY\u0001\0\0\0', 'latin1');
      head.writeUInt16LE(header.length, 8);
      return Buffer.concat([head, Buffer.from(header), data]);
    };
    const cases: readonly (readonly [Buffer, RegExp])[] = [
      [Buffer.from('PNG'), /no \.npy/],
      [make("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }"), /big-endian/],
      [make("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }"), /ascontiguousarray/],
      [make("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }"), /not read here/],
      [make("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"), /not read here/],
      [make("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"), /8 bytes of data .* 12/],
      [make("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999), }"), /asks for/],
    ];
    for (const [bytes, says] of cases) assert.throws(() => decodeNpy('x.npy', bytes), says);
  });

  it('do not crash anything, whatever bytes they hold', () => {
    const magic = Buffer.from('\u0093NUMPY', 'latin1');
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        try {
          decodeNpy('x', Buffer.concat([magic, bytes]));
        } catch (error) {
          assert.ok(isInferkvError(error), String(error));
        }
      }),
    );
  });
});
