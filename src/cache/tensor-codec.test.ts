import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { isInferkvError } from '../base/errors.ts';
import {
  byteLengthOf,
  bytesOf,
  isStrings,
  numericView,
  TYPE_NUMBER,
  type Tensor,
  type Tensors,
  type TensorType,
} from '../base/tensor.ts';
import { openEnvelope, metadataOf, sealEnvelope } from './envelope.ts';
import { tensorCodec } from './tensor-codec.ts';

const types = Object.keys(TYPE_NUMBER) as TensorType[];
const shapes = fc.array(fc.nat(4), { maxLength: 4 });
const texts = fc.string({ unit: 'grapheme' });
const anyText = fc.oneof(texts, fc.constantFrom('\ud800', 'a\udc00b', '\ufeff'));

const tensorArbitrary: fc.Arbitrary<Tensor> = fc.constantFrom(...types).chain((type) =>
  shapes.chain((shape): fc.Arbitrary<Tensor> => {
    const count = shape.reduce((product, size) => product * size, 1);
    if (type === 'string') {
      return fc.array(anyText, { minLength: count, maxLength: count }).map((data) => ({ type, shape, data }));
    }
    const lengthBytes = byteLengthOf(type, shape);
    // Any bits, so that numbers that are none come along too.
    return fc.uint8Array({ minLength: lengthBytes, maxLength: lengthBytes }).map((bytes) => {
      const data = numericView(type, shape, new ArrayBuffer(lengthBytes));
      bytesOf(data).set(bytes);
      return { type, shape, data };
    });
  }),
);
const tensorsArbitrary: fc.Arbitrary<Tensors> = fc
  .array(fc.tuple(texts, tensorArbitrary), { maxLength: 5 })
  .map((entries) => Object.fromEntries(entries));

/** Tensors in a form that tells bits and names apart. */
const plain = (tensors: Tensors): unknown =>
  Object.entries(tensors).map(([name, { type, shape, data }]) => [
    name,
    type,
    [...shape],
    isStrings(data) ? [...data] : [data.constructor.name, Buffer.from(bytesOf(data)).toString('hex')],
  ]);

function written(tensors: Tensors): { readonly bytes: Uint8Array; readonly metadata: Uint8Array } {
  const encoded = tensorCodec.encode(tensors);
  const { lengthBytes, metadata } = encoded;
  // As in an arena: shared, in the middle of something, full of what was there before.
  const bytes = new Uint8Array(new SharedArrayBuffer(lengthBytes + 128), 64, lengthBytes).fill(0xee);
  encoded.write(bytes);
  return { bytes, metadata };
}

describe('tensors as bytes', () => {
  it('come back as they were, of every type and shape', () => {
    fc.assert(
      fc.property(tensorsArbitrary, (tensors) => {
        const { bytes, metadata } = written(tensors);
        const back = tensorCodec.decode(bytes, metadata);
        assert.deepEqual(plain(back), plain(tensors));
        for (const { data } of Object.values(back)) {
          if (isStrings(data)) continue;
          assert.equal(data.buffer, bytes.buffer, 'a view, not a copy');
          assert.equal(data.byteOffset % 64, 0);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('are covered in every type', () => {
    for (const type of types) {
      const data =
        type === 'string'
          ? ['a', '', '\u{1f600}\ufeffz']
          : numericView(type, [3], new ArrayBuffer(byteLengthOf(type, [3])));
      if (!isStrings(data)) bytesOf(data).set([1, 2]);
      const tensors: Tensors = {
        x: { type, shape: [3], data },
        scalar: { type: 'float16', shape: [], data: Float16Array.of(1.5) },
      };
      const { bytes, metadata } = written(tensors);
      assert.deepEqual(plain(tensorCodec.decode(bytes, metadata)), plain(tensors));
    }
  });

  it('are frozen as far as they can be', () => {
    const { bytes, metadata } = written({ y: { type: 'int8', shape: [2], data: Int8Array.of(1, 2) } });
    const back = tensorCodec.decode(bytes, metadata);
    assert.throws(() => Object.assign(back, { z: 1 }), TypeError);
    assert.throws(() => ((back['y']?.shape as number[])[0] = 5), TypeError);
  });

  it('are never read beyond their ends, whatever the metadata says', () => {
    const { bytes, metadata } = written({
      words: { type: 'string', shape: [2], data: ['hello', 'you'] },
      y: { type: 'float32', shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) },
    });
    fc.assert(
      fc.property(
        fc.nat(metadata.length - 1),
        fc.nat(255),
        fc.nat(metadata.length),
        fc.nat(bytes.length),
        (at, byte, cut, end) => {
          const spoilt = metadata.slice();
          spoilt[at] = byte;
          for (const [value, said] of [
            [bytes, spoilt],
            [bytes, metadata.subarray(0, cut)],
            [bytes.subarray(0, end), metadata],
          ] as const) {
            try {
              for (const { data } of Object.values(tensorCodec.decode(value, said))) {
                if (!isStrings(data)) assert.ok(data.byteOffset + data.byteLength <= value.byteOffset + value.length);
              }
            } catch (error) {
              assert.ok(isInferkvError(error, 'ERR_INFERKV_INPUT_INVALID'), String(error));
            }
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('cannot be written where a name is half a character', () => {
    assert.throws(
      () => tensorCodec.encode({ '\ud800': { type: 'string', shape: [0], data: [] } }),
      (error) => isInferkvError(error, 'ERR_INFERKV_INPUT_INVALID'),
    );
  });
});

describe('what lies with an entry', () => {
  it('comes back as it was, and what is cut off is said to be', () => {
    const envelopes = fc.record(
      {
        tags: fc.option(fc.array(texts, { minLength: 1, maxLength: 4 }), { nil: undefined }),
        tenant: fc.option(texts, { nil: undefined }),
        metadata: fc.uint8Array({ maxLength: 20 }),
      },
      { noNullPrototype: true },
    );
    fc.assert(
      fc.property(envelopes, fc.nat(1000), (envelope, cut) => {
        const sealed = sealEnvelope(envelope) as Uint8Array;
        assert.deepEqual(openEnvelope(sealed), envelope);
        assert.deepEqual(metadataOf(sealed), envelope.metadata);
        for (const open of [openEnvelope, metadataOf]) {
          try {
            open(sealed.subarray(0, cut % sealed.length));
          } catch (error) {
            assert.ok(isInferkvError(error, 'ERR_INFERKV_INPUT_INVALID'), String(error));
          }
        }
      }),
    );
    assert.equal(
      sealEnvelope({ tags: ['x'.repeat(70_000)], tenant: undefined, metadata: new Uint8Array(0) }),
      undefined,
    );
  });
});
