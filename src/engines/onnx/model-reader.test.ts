import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import fc from 'fast-check';

import { externalScaling, scaling, twoByTwo } from '../../../test/support/models.ts';
import { TempFolder } from '../../../test/support/temp.ts';
import { isInferkvError } from '../../base/errors.ts';
import { onnxCompanions } from './model-reader.ts';
import { constant, encodeModel, externalConstant, model, node, value } from './model-writer.ts';
import { bytes, int, message, nested, type Message } from './wire.ts';

describe('the files that an ONNX model refers to', () => {
  let folder: TempFolder;
  before(() => {
    folder = new TempFolder();
  });
  after(() => folder[Symbol.dispose]());

  const companionsOf = (content: Uint8Array): Promise<readonly string[]> =>
    onnxCompanions(folder.write('model.onnx', content));
  const invalid = (error: unknown): boolean => isInferkvError(error, 'ERR_INFERKV_ARTIFACT_INVALID');

  it('are none for a model of one file, however large its weights', async () => {
    assert.deepEqual(await companionsOf(scaling(2)), []);
    const large = constant('w', 'float32', [300_000], new Float32Array(300_000));
    const outputs = [value('y', 'float32', [300_000])];
    assert.deepEqual(
      await companionsOf(
        encodeModel(
          model({ name: 'm', nodes: [node('Identity', ['w'], ['y'])], constants: [large, large], inputs: [], outputs }),
        ),
      ),
      [],
    );
  });

  it('are named once each, whatever lies between', async () => {
    const large = constant('w', 'float32', [100_000], new Float32Array(100_000));
    const constants = [
      externalConstant('a', 'float32', [1], 'sub/a.bin'),
      large,
      externalConstant('b', 'float32', [1], 'b.bin'),
      externalConstant('c', 'float32', [1], 'b.bin'),
    ];
    const content = encodeModel(
      model({ name: 'm', nodes: [node('Add', ['a', 'b'], ['y'])], constants, inputs: [], outputs: [] }),
    );
    assert.deepEqual(await companionsOf(content), ['sub/a.bin', 'b.bin']);
  });

  it('are found in attributes of nodes, in graphs within graphs and in functions', async () => {
    const location = (name: string): Message => nested(13, message(bytes(1, 'location'), bytes(2, name)));
    const inner = message(nested(5, location('inner.bin')));
    const attribute = message(bytes(1, 'then_branch'), nested(6, inner), nested(5, location('attribute.bin')));
    const sparse = message(nested(1, location('sparse.bin')));
    const graph = message(nested(1, message(bytes(4, 'If'), nested(5, attribute))), nested(15, sparse));
    const inFunction = message(nested(7, message(nested(5, message(nested(5, location('function.bin')))))));
    const found = await companionsOf(encodeModel(message(int(1, 10), nested(7, graph), nested(25, inFunction))));
    assert.deepEqual([...found].toSorted(), ['attribute.bin', 'function.bin', 'inner.bin', 'sparse.bin']);
  });

  it('are not read from what is no model', async () => {
    for (const content of ['', 'no model at all', '{"json": true}'])
      await assert.rejects(companionsOf(Buffer.from(content)), invalid);
    await assert.rejects(onnxCompanions(folder.path), invalid);
    await assert.rejects(onnxCompanions(folder.at('nowhere')), (error) =>
      isInferkvError(error, 'ERR_INFERKV_ARTIFACT_MISSING'),
    );
    // A graph in a graph in a graph: deeper than any model, and deep enough to exhaust a stack.
    let deep = message(bytes(1, 'x'));
    for (let i = 0; i < 300; i++) deep = message(nested(1, message(nested(5, message(nested(6, deep))))));
    await assert.rejects(companionsOf(encodeModel(message(nested(7, deep)))), invalid);
  });

  it('are never more than names, whatever the bytes', async () => {
    const models = [scaling(2), externalScaling('weights.bin'), twoByTwo()];
    const broken = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc
        .record({ which: fc.nat(2), cut: fc.nat(400) })
        .map(({ which, cut }) => (models[which] ?? new Uint8Array()).slice(0, cut)),
      fc.record({ which: fc.nat(2), at: fc.nat(400), to: fc.nat(255) }).map(({ which, at, to }) => {
        const copy = Uint8Array.from(models[which] ?? []);
        copy[at % copy.length] = to;
        return copy;
      }),
    );
    await fc.assert(
      fc.asyncProperty(broken, async (content) => {
        try {
          for (const name of await companionsOf(content)) assert.equal(typeof name, 'string');
        } catch (error) {
          assert.ok(invalid(error), String(error));
        }
      }),
      { numRuns: 500 },
    );
  });
});
