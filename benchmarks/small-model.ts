import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { createRandom } from '../src/base/random.ts';
import { constant, model, node, value, writeModel } from '../src/engines/onnx/model-writer.ts';
import { demoRepository } from '../src/demo/index.ts';

/** Numbers that go into the small model. */
export const SMALL_INPUT = 1024;

const WIDTHS = [SMALL_INPUT, 2048, 2048, 2048, 256] as const;

/**
 * A repository with `resnet50`; with `small`, a perceptron of 11 million parameters, 4 KB in and 1 KB out, about a
 * millisecond a run; and with `small-rows`, the same for any number of rows at once.
 */
export async function benchmarkRepository(): Promise<{ readonly folder: string } & AsyncDisposable> {
  const folder = await mkdtemp(join(tmpdir(), 'inferkv-bench-'));
  for (const [name, rows] of [
    ['small', 1],
    ['small-rows', 'N'],
  ] as const) {
    await mkdir(join(folder, name, '1'), { recursive: true });
    await writeModel(join(folder, name, '1', 'model.onnx'), perceptron(rows));
  }
  await demoRepository({ folder });
  return { folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}

function perceptron(rows: number | string): ReturnType<typeof model> {
  const random = createRandom(7);
  const layers = WIDTHS.slice(1).map((to, layer) => {
    const from = WIDTHS[layer] ?? 0;
    const weights = Float32Array.from({ length: from * to }, () => (random.next() * 2 - 1) / Math.sqrt(from));
    const input = layer === 0 ? 'input' : `relu${layer - 1}`;
    return {
      nodes: [
        node('MatMul', [input, `weights${layer}`], [`dense${layer}`]),
        node('Relu', [`dense${layer}`], [`relu${layer}`]),
      ],
      weights: constant(`weights${layer}`, 'float32', [from, to], weights),
    };
  });
  const last = layers.length - 1;
  return model({
    name: 'small',
    nodes: layers.flatMap(({ nodes }) => nodes),
    constants: layers.map(({ weights }) => weights),
    inputs: [value('input', 'float32', [rows, SMALL_INPUT])],
    outputs: [value(`relu${last}`, 'float32', [rows, WIDTHS[last + 1] ?? 0])],
  });
}
