import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';

import { slow } from '../../test/support/models.ts';
import { TempFolder } from '../../test/support/temp.ts';

describe('a process that exits during a run', () => {
  it('ends with its own code and without a native abort, every time', () => {
    using folder = new TempFolder();
    folder.write('slow.onnx', slow());
    const program = join(import.meta.dirname, '..', '..', 'test', 'fixtures', 'exit-during-run.ts');
    for (let round = 0; round < 3; round++) {
      const { status, signal, stderr } = spawnSync(process.execPath, [program, folder.path], { encoding: 'utf8' });
      assert.deepEqual({ status, signal, stderr }, { status: 7, signal: null, stderr: '' });
    }
  });
});
