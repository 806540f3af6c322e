import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { isInferkvError } from '../../base/errors.ts';
import {
  byteLengthOf,
  bytesOf,
  elementCount,
  isStrings,
  numericView,
  type Tensor,
  type TensorType,
} from '../../base/tensor.ts';
import { bytesOfTensor, tensorFromBytes } from './binary-data.ts';
import { datatypeOf, TYPE_OF_DATATYPE } from './datatypes.ts';
import { decodeInferRequest } from './infer-request.ts';
import { encodeInferResponse } from './infer-response.ts';
import { jsonOfTensor, tensorFromJson } from './json-data.ts';

const types = Object.values(TYPE_OF_DATATYPE);

/** Tensors of every type, from any bytes: NaN, infinities and subnormal numbers among them. */
const anyTensor: fc.Arbitrary<Tensor> = fc
  .tuple(fc.constantFrom(...types), fc.array(fc.nat(4), { maxLength: 3 }))
  .chain(([type, shape]) => {
    const elements = elementCount(shape);
    if (type === 'string') {
      const texts = fc.array(fc.string({ unit: 'grapheme' }), { minLength: elements, maxLength: elements });
      return texts.map((data): Tensor => ({ type, shape, data }));
    }
    const length = byteLengthOf(type, shape);
    return fc.uint8Array({ minLength: length, maxLength: length }).map((bytes): Tensor => {
      const own = type === 'bool' ? bytes.map((each) => each & 1) : bytes;
      return { type, shape, data: numericView(type, shape, Uint8Array.from(own).buffer) };
    });
  });

function isFinite({ data }: Tensor): boolean {
  return isStrings(data) || Array.from(data, Number).every(Number.isFinite);
}

/** Refused with a code of ours, or decoded: nothing else may come of any bytes. */
function decodesOrRefuses(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    assert.ok(isInferkvError(error), String((error as Error).stack));
  }
}

describe('the codec of the Open Inference Protocol', () => {
  it('decodes bytes to what was encoded, at any place in memory', () => {
    fc.assert(
      fc.property(anyTensor, fc.nat(9), (tensor, offset) => {
        const bytes = bytesOfTensor(tensor);
        const placed = new Uint8Array(offset + bytes.length);
        placed.set(bytes, offset);
        const decoded = tensorFromBytes('x', tensor.type, tensor.shape, placed.subarray(offset));
        assert.deepEqual([decoded.type, decoded.shape], [tensor.type, tensor.shape]);
        if (isStrings(decoded.data) || isStrings(tensor.data)) assert.deepEqual(decoded.data, tensor.data);
        else assert.deepEqual(Buffer.from(bytesOf(decoded.data)), Buffer.from(bytesOf(tensor.data)));
      }),
    );
  });

  it('views bytes where their place suits the type, and copies only where it does not', () => {
    const memory = new Uint8Array(24);
    const at = (offset: number): boolean => {
      const { data } = tensorFromBytes('x', 'float32', [2], memory.subarray(offset, offset + 8));
      return !isStrings(data) && data.buffer === memory.buffer;
    };
    assert.deepEqual([at(0), at(4), at(5), at(8)], [true, true, false, true]);
  });

  it('decodes JSON to what was encoded, flat and nested', () => {
    fc.assert(
      fc.property(anyTensor.filter(isFinite), (tensor) => {
        // 64-bit integers go out as numbers of all digits, which JavaScript's own parser would round.
        const text = jsonOfTensor('x', tensor);
        const exact = tensor.type === 'int64' || tensor.type === 'uint64' ? text.replace(/-?\d+/g, '"$&"') : text;
        const flat = JSON.parse(exact) as unknown[];
        const [outer = 1] = tensor.shape;
        const rowLength = outer === 0 ? 0 : flat.length / outer;
        const nested = Array.from({ length: outer }, (_, row) => flat.slice(row * rowLength, (row + 1) * rowLength));
        for (const data of tensor.shape.length > 1 ? [flat, nested] : [flat]) {
          const decoded = tensorFromJson('x', tensor.type, tensor.shape, data);
          assert.deepEqual(Array.from(decoded.data, loose), Array.from(tensor.data, loose));
        }
      }),
    );
  });

  it('decodes whole requests to what was encoded', () => {
    const tensors = fc.dictionary(fc.string({ minLength: 1 }), fc.tuple(anyTensor, fc.boolean()), { maxKeys: 4 });
    fc.assert(
      fc.property(tensors, fc.option(fc.string(), { nil: undefined }), (inputs, id) => {
        const binary: Uint8Array[] = [];
        const wire = Object.entries(inputs).map(([name, [tensor, asBytes]]) => {
          const { type, shape } = tensor;
          const head = { name, datatype: datatypeOf(type), shape };
          if (!asBytes && isFinite(tensor) && !type.includes('int64')) {
            return { ...head, data: JSON.parse(jsonOfTensor(name, tensor)) as unknown };
          }
          const bytes = bytesOfTensor(tensor);
          binary.push(bytes);
          return { ...head, parameters: { binary_data_size: bytes.length } };
        });
        const json = Buffer.from(JSON.stringify({ id, inputs: wire }));
        const decoded = decodeInferRequest(Buffer.concat([json, ...binary]), json.length);
        assert.equal(decoded.id, id);
        assert.deepEqual(Object.keys(decoded.inputs).toSorted(), Object.keys(inputs).toSorted());
        for (const [name, [tensor]] of Object.entries(inputs)) {
          assert.deepEqual(Array.from(decoded.inputs[name]?.data ?? [], loose), Array.from(tensor.data, loose));
        }
      }),
    );
  });

  it('encodes answers that decode to the outputs', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), anyTensor, { maxKeys: 3 }), (outputs) => {
        const request = decodeInferRequest(
          Buffer.from('{"inputs":[],"parameters":{"binary_data_output":true}}'),
          undefined,
        );
        const { pieces, jsonLength, byteLength } = encodeInferResponse({ name: 'm', version: '1' }, request, outputs);
        const body = Buffer.concat(pieces);
        assert.equal(body.length, byteLength);
        const parsed = JSON.parse(body.toString('utf8', 0, jsonLength)) as {
          outputs: { name: string; datatype: string; shape: number[]; parameters: { binary_data_size: number } }[];
        };
        let at = jsonLength;
        for (const { name, datatype, shape, parameters } of parsed.outputs) {
          const bytes = Uint8Array.from(body.subarray(at, at + parameters.binary_data_size));
          at += parameters.binary_data_size;
          const decoded = tensorFromBytes(name, TYPE_OF_DATATYPE[datatype] as TensorType, shape, bytes);
          assert.deepEqual(Array.from(decoded.data, loose), Array.from(outputs[name]?.data ?? [], loose));
        }
      }),
    );
  });

  it('is not crashed by any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.option(fc.nat(250), { nil: undefined }), (body, length) =>
        decodesOrRefuses(() => decodeInferRequest(body, length)),
      ),
    );
  });

  it('is not crashed by any JSON, nor by bytes that do not belong to it', () => {
    const anyInput = fc.record(
      {
        name: fc.oneof(fc.string(), fc.constantFrom('__proto__', 'constructor', 'x')),
        datatype: fc.oneof(fc.constantFrom(...Object.keys(TYPE_OF_DATATYPE)), fc.string()),
        shape: fc.oneof(fc.array(fc.oneof(fc.nat(4), fc.integer(), fc.double())), fc.jsonValue()),
        data: fc.jsonValue(),
        parameters: fc.oneof(fc.record({ binary_data_size: fc.oneof(fc.nat(40), fc.jsonValue()) }), fc.jsonValue()),
      },
      { requiredKeys: [] },
    );
    const anyRequest = fc.oneof(
      fc.jsonValue(),
      fc.record(
        { id: fc.jsonValue(), inputs: fc.array(anyInput), outputs: fc.jsonValue(), parameters: fc.jsonValue() },
        { requiredKeys: ['inputs'] },
      ),
    );
    fc.assert(
      fc.property(anyRequest, fc.uint8Array({ maxLength: 40 }), (request, bytes) => {
        const json = Buffer.from(JSON.stringify(request));
        decodesOrRefuses(() => decodeInferRequest(Buffer.concat([json, bytes]), json.length));
      }),
      { numRuns: 1000 },
    );
  });

  it('is not brought to its knees by arrays in arrays', () => {
    const deep = `{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":${'['.repeat(50_000)}${']'.repeat(50_000)}}]}`;
    decodesOrRefuses(() => decodeInferRequest(Buffer.from(deep), undefined));
  });

  it('takes a name like __proto__ for a name', () => {
    const { inputs } = decodeInferRequest(
      Buffer.from('{"inputs":[{"name":"__proto__","datatype":"FP32","shape":[1],"data":[1]}]}'),
      undefined,
    );
    assert.deepEqual(Object.keys(inputs), ['__proto__']);
    assert.equal(Object.getPrototypeOf(inputs), Object.prototype);
  });
});

/** As text, so that -0 is 0, as JSON has it, and NaN is NaN. */
function loose(value: unknown): string {
  return String(value);
}
