import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';

import { scaling } from '../support/models.ts';
import { TempFolder } from '../support/temp.ts';

const program = join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.ts');

interface Trace {
  readonly requests: number;
  readonly rows: readonly { readonly policy: string; readonly hitRate: number; readonly costSaved?: number }[];
}

describe('inferkv record', () => {
  it('writes what a server was asked for, as simulate reads it', async () => {
    using folder = new TempFolder();
    folder.write('models/scale.onnx', scaling(2));
    const child = spawn(process.execPath, [program, 'record', '--out', 'traces', '--port', '0', '--json'], {
      cwd: folder.path,
    });
    let said = '';
    child.stderr.on('data', (chunk) => (said += String(chunk)));
    // Whatever fails, nothing goes on serving.
    using _ended = { [Symbol.dispose]: () => void child.kill('SIGKILL') };
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const { address } = JSON.parse(String(line)) as { address: string };
    for (const value of [1, 2, 1, 3, 1, 1]) {
      const answer = await fetch(`${address}/v2/models/scale/infer`, {
        method: 'POST',
        body: JSON.stringify({ inputs: [{ name: 'x', datatype: 'FP32', shape: [3], data: [value, 0, 0] }] }),
      });
      assert.equal(answer.status, 200, await answer.text());
    }
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'exit'), [0, null]);
    assert.match(said, /Recorded \d+ requests in traces; 0 came too fast/);

    const files = readdirSync(folder.at('traces')).map((name) => join('traces', name));
    const simulate = (...flags: string[]): Trace => {
      const args = ['simulate', ...files, '--join', '--policies', 'lru', '--no-bound', '--json', ...flags];
      const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
        cwd: folder.path,
        encoding: 'utf8',
      });
      assert.equal(status, 0, stderr);
      return (JSON.parse(stdout) as { traces: readonly [Trace] }).traces[0];
    };
    const results = simulate('--partition', 'results', '--sizes', '1MB');
    assert.deepEqual([results.requests, results.rows[0]?.hitRate], [6, 0.5]);
    assert.ok((results.rows[0]?.costSaved ?? 0) > 0);
    assert.equal(simulate('--partition', 'models', '--blocks', '1').rows[0]?.policy, 'lru');
    for (const file of files) assert.ok(!readFileSync(folder.at(file), 'utf8').includes('scale'));
  });

  it('refuses what makes no sense before it serves', () => {
    using folder = new TempFolder();
    folder.write('file', '');
    const cases: readonly (readonly [args: string[], says: RegExp])[] = [
      [[], /--out/],
      [['--out', 'traces', '--max-bytes', 'much'], /--max-bytes: "much"/],
      [['--out', 'traces', '--max-bytes', '10B'], /4096 bytes at least/],
      [['--out', 'traces', '--files', 'many'], /one of them at least/],
      [['--out', 'file'], /file cannot be written to/],
      [['--out', 'traces', '--config', 'nowhere.json'], /nowhere\.json/],
    ];
    for (const [args, says] of cases) {
      const { status, stderr } = spawnSync(process.execPath, [program, 'record', ...args], {
        cwd: folder.path,
        encoding: 'utf8',
      });
      assert.equal(status, 2, stderr);
      assert.match(stderr, says);
    }
  });
});
