import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { plainEncoding, plainModelKey } from '../../test/support/request-encoder.ts';
import { readVectors, requestOf } from '../../test/support/request-vectors.ts';
import type { PlainValue } from '../base/canonical.ts';
import { isInferkvError } from '../base/errors.ts';
import { byteLengthOf, numericView, type Tensor, type TensorType } from '../base/tensor.ts';
import { encodeRequest, modelKey, requestKey, type RequestIdentity } from './request-key.ts';

const model = modelKey({ artifactDigest: 'd', engine: 'onnx', engineVersion: '1' });
const one: Tensor = { type: 'float32', shape: [1], data: Float32Array.of(1) };

describe('the request key', () => {
  for (const vector of readVectors()) {
    it(`is what it always was: ${vector.name}`, () => {
      const request = requestOf(vector.request);
      assert.equal(requestKey(modelKey(vector.model), request), vector.key);
      const plain = plainEncoding(plainModelKey(vector.model), request);
      assert.equal(createHash('sha256').update(plain).digest('hex'), vector.key);
      assert.ok(plain.equals(encodeRequest(modelKey(vector.model), request)));
    });
  }

  it('is the digest of its encoding, also where inputs are hashed where they lie', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const encoding = encodeRequest(model, request);
        assert.equal(requestKey(model, request), createHash('sha256').update(encoding).digest('hex'));
        assert.ok(plainEncoding(model, request).equals(encoding));
      }),
    );
  });

  it('tells apart what differs in anything, and only that', () => {
    fc.assert(
      fc.property(requests, requests, (a, b) => {
        assert.equal(Buffer.from(encodeRequest(model, a)).equals(encodeRequest(model, b)), sameRequest(a, b));
      }),
    );
  });

  it('does not depend on the order in which things are named', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const turned: RequestIdentity = {
          tenant: request.tenant,
          inputs: Object.fromEntries(Object.entries(request.inputs).toReversed()),
          parameters: reversed(request.parameters) as RequestIdentity['parameters'],
          outputs: request.outputs?.toReversed(),
        };
        assert.equal(requestKey(model, turned), requestKey(model, request));
      }),
    );
  });
});

describe('the request key tells apart', () => {
  const of = (request: Partial<RequestIdentity>): string => requestKey(model, { inputs: { x: one }, ...request });
  const input = (type: TensorType, shape: readonly number[], data: Tensor['data']): RequestIdentity => ({
    inputs: { x: { type, shape, data } },
  });
  const six = Float32Array.of(1, 2, 3, 4, 5, 6);
  const cases: Readonly<Record<string, readonly [string, string]>> = {
    'shapes of the same bytes': [of(input('float32', [2, 3], six)), of(input('float32', [3, 2], six))],
    'a further dimension of one': [of(input('float32', [6], six)), of(input('float32', [6, 1], six))],
    'types of the same bytes': [of(input('uint8', [1], Uint8Array.of(1))), of(input('bool', [1], Uint8Array.of(1)))],
    'zero from minus zero in inputs': [
      of(input('float32', [1], Float32Array.of(0))),
      of(input('float32', [1], Float32Array.of(-0))),
    ],
    'where one text ends and the next begins': [
      of(input('string', [2], ['ab', 'c'])),
      of(input('string', [2], ['a', 'bc'])),
    ],
    'names from data': [of({ inputs: { x: one, y: one } }), of({ inputs: { xy: one } })],
    'all outputs from none': [of({}), of({ outputs: [] })],
    'outputs by name': [of({ outputs: ['a', 'b'] }), of({ outputs: ['ab'] })],
    'numbers from texts': [of({ parameters: { p: 1 } }), of({ parameters: { p: '1' } })],
    'numbers from large integers': [of({ parameters: { p: 1 } }), of({ parameters: { p: 1n } })],
    'lists from records': [of({ parameters: { p: [] } }), of({ parameters: { p: {} } })],
    'null from nothing': [of({ parameters: { p: null } }), of({ parameters: {} })],
    tenants: [of({}), of({ tenant: 'a' })],
    'a tenant from a parameter': [of({ tenant: 'a' }), of({ parameters: { tenant: 'a' } })],
    models: [
      of({}),
      requestKey(modelKey({ artifactDigest: 'e', engine: 'onnx', engineVersion: '1' }), { inputs: { x: one } }),
    ],
    'engine from version': [
      requestKey(modelKey({ artifactDigest: 'd', engine: 'a', engineVersion: 'bc' }), { inputs: {} }),
      requestKey(modelKey({ artifactDigest: 'd', engine: 'ab', engineVersion: 'c' }), { inputs: {} }),
    ],
    'tokenizer from adapter': [
      requestKey(modelKey({ artifactDigest: 'd', engine: 'a', engineVersion: '', tokenizer: 't' }), { inputs: {} }),
      requestKey(modelKey({ artifactDigest: 'd', engine: 'a', engineVersion: '', adapter: 't' }), { inputs: {} }),
    ],
  };
  for (const [name, [a, b]] of Object.entries(cases)) it(name, () => assert.notEqual(a, b));

  it('but not what is the same to JavaScript', () => {
    assert.equal(of({ parameters: { p: -0 } }), of({ parameters: { p: 0 } }));
    assert.equal(of({ parameters: { p: undefined } }), of({}));
    assert.equal(of({ tenant: '' }), of({}));
    assert.equal(of({ outputs: ['a', 'b', 'a'] }), of({ outputs: ['b', 'a'] }));
  });

  it('and turns away what has no canonical form', () => {
    const self: Record<string, unknown> = {};
    self['self'] = self;
    for (const value of [() => 1, Symbol('s'), new Date(), new Map(), new Float32Array(1), self, '\ud800']) {
      assert.throws(
        () => of({ parameters: { p: value as PlainValue } }),
        (error) => isInferkvError(error, 'ERR_INFERKV_INPUT_INVALID'),
      );
    }
    assert.throws(
      () => of({ tenant: '\udfff' }),
      (error) => isInferkvError(error, 'ERR_INFERKV_INPUT_INVALID'),
    );
    assert.throws(
      () => of(input('string', [1], ['\ud83d'])),
      (error) => isInferkvError(error, 'ERR_INFERKV_INPUT_INVALID'),
    );
  });
});

const name = fc.constantFrom('a', 'b', 'ab', 'é', '');
const numericTypes = [
  'float32',
  'float64',
  'float16',
  'int8',
  'uint8',
  'bool',
  'int16',
  'int32',
  'int64',
  'uint64',
  'int4',
] as const;
const numeric: fc.Arbitrary<Tensor> = fc
  .record({
    type: fc.constantFrom(...numericTypes),
    shape: fc.array(fc.nat(3), { maxLength: 3 }),
    fill: fc.nat(3),
    // Now and then past the size from which inputs are hashed where they lie.
    large: fc.integer({ min: 0, max: 19 }).map((n) => n === 0),
  })
  .map(({ type, shape, fill, large }) => {
    const whole = large ? [...shape, 5000] : shape;
    const buffer = new ArrayBuffer(byteLengthOf(type, whole));
    new Uint8Array(buffer).fill(fill);
    return { type, shape: whole, data: numericView(type, whole, buffer) };
  });
const texts: fc.Arbitrary<Tensor> = fc
  .array(fc.constantFrom('', 'a', 'b', 'ab', '☃'), { maxLength: 3 })
  .map((data) => ({ type: 'string', shape: [data.length], data }));
const { value: plainValue } = fc.letrec<{ value: PlainValue; leaf: PlainValue }>((tie) => ({
  leaf: fc.oneof(
    fc.constantFrom(null, true, false, 'a', '1', ''),
    fc.integer({ min: -1, max: 1 }),
    fc.constantFrom(0.5, Number.NaN, 1n),
  ),
  value: fc.oneof(
    { maxDepth: 2 },
    tie('leaf'),
    fc.array(tie('value'), { maxLength: 2 }),
    fc.dictionary(name, tie('value'), { maxKeys: 2, noNullPrototype: true }),
  ),
}));
const requests: fc.Arbitrary<RequestIdentity> = fc.record({
  outputs: fc.option(fc.array(name, { maxLength: 3 }), { nil: undefined }),
  parameters: fc.dictionary(name, plainValue, { maxKeys: 2, noNullPrototype: true }),
  tenant: fc.constantFrom(undefined, '', 'a', 'b'),
  inputs: fc.dictionary(name, fc.oneof(numeric, texts), { maxKeys: 2, noNullPrototype: true }),
});

/** Whether two requests ask for the same, by comparing them part by part. */
function sameRequest(a: RequestIdentity, b: RequestIdentity): boolean {
  const parts = ({ outputs, parameters, tenant, inputs }: RequestIdentity): unknown => [
    outputs === undefined ? null : [...new Set(outputs)].toSorted(),
    parameters,
    tenant ?? '',
    Object.entries(inputs)
      .toSorted(([x], [y]) => (x < y ? -1 : 1))
      .map(([key, { type, shape, data }]) => [
        key,
        type,
        shape,
        ArrayBuffer.isView(data) ? Buffer.from(data.buffer).toString('hex') : data,
      ]),
  ];
  try {
    assert.deepEqual(parts(a), parts(b));
    return true;
  } catch {
    return false;
  }
}

/** The same value with the fields of all its records the other way round. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .toReversed()
      .map(([key, each]) => [key, reversed(each)]),
  );
}
