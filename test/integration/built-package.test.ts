import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';

import { constant, encodeModel, model, node, value } from '../../src/engines/onnx/model-writer.ts';

const root = join(import.meta.dirname, '..', '..');

/** Doubles what it is given. */
function doubling(): Uint8Array {
  return encodeModel(
    model({
      name: 'doubling',
      nodes: [node('Mul', ['x', 'two'], ['y'])],
      constants: [constant('two', 'float32', [1], Float32Array.of(2))],
      inputs: [value('x', 'float32', ['N'])],
      outputs: [value('y', 'float32', ['N'])],
    }),
  );
}

describe('worker threads start from the sources and from the built package alike', () => {
  let folder = '';

  before(() => {
    // Inside the project, so that the built files find their packages.
    mkdirSync(join(root, '.cache'), { recursive: true });
    folder = mkdtempSync(join(root, '.cache', 'built-'));
    mkdirSync(join(folder, 'models', 'doubling', '1'), { recursive: true });
    writeFileSync(join(folder, 'models', 'doubling', '1', 'model.onnx'), doubling());
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    const outDir = join(folder, 'dist');
    const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json', '--outDir', outDir], {
      cwd: root,
      encoding: 'utf8',
    });
    assert.equal(status, 0, stdout);
  });

  after(() => rmSync(folder, { recursive: true, force: true }));

  const entries = [
    ['sources', () => join(root, 'src', 'index.ts')],
    ['built package', () => join(folder, 'dist', 'index.js')],
  ] as const;
  for (const [name, entry] of entries) {
    it(name, () => {
      const program = `
        import { createInferenceCache, tensor } from ${JSON.stringify(pathToFileURL(entry()).href)};
        await using cache = createInferenceCache({ repository: ${JSON.stringify(join(folder, 'models'))} });
        const { outputs } = await cache.model('doubling').run({ x: tensor(Float32Array.of(1, 2, 4)) });
        console.log([...outputs.y.data].join(' '));`;
      const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
        encoding: 'utf8',
      });
      assert.equal(stdout.trim(), '2 4 8', stderr);
    });
  }
});
