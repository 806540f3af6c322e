import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { describe, it } from 'node:test';

import { workerEntry } from './worker-entry.ts';

describe('the file a worker starts from', () => {
  it('lies beside the module that asks, with its ending', () => {
    const of = (module: string): string => workerEntry(module, './worker').href;
    assert.equal(of('file:///a/src/engines/onnx/engine.ts'), 'file:///a/src/engines/onnx/worker.ts');
    assert.equal(of('file:///a/dist/engines/onnx/engine.js'), 'file:///a/dist/engines/onnx/worker.js');
    assert.equal(of('file:///a%20b/x.ts?v=1'), 'file:///a%20b/worker.ts');
  });

  it('is there in the sources (test/integration/built-package.test.ts looks into the built package)', () => {
    assert.ok(existsSync(workerEntry(new URL('../engines/onnx/engine.ts', import.meta.url).href, './worker')));
  });
});
