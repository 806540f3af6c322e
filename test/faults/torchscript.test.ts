import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';

import { isInferkvError } from '../../src/base/errors.ts';
import { createRandom } from '../../src/base/random.ts';
import type { Tensor } from '../../src/base/tensor.ts';
import { checkArchive } from '../../src/engines/torchscript/archive.ts';
import { TorchScriptEngine } from '../../src/engines/torchscript/engine.ts';
import { artifactIn } from '../support/artifact.ts';
import { TempFolder } from '../support/temp.ts';
import { torchAbsent, torchModel } from '../support/torchscript.ts';

const fixture = (name: string): string => join(import.meta.dirname, '..', 'fixtures', name);
const LOADED_FLIPS = 40;

describe('TorchScript under fire', { skip: torchAbsent(), timeout: 300_000 }, () => {
  it('lives on when threads are ended in the middle of a forward: theirs, and one that has the engine in it', async () => {
    using folder = new TempFolder();
    const path = folder.write('slow.pt', torchModel('Slow'));
    for (let round = 0; round < 4; round++) {
      for (const name of ['torch-session-worker.ts', 'torch-forward-worker.ts']) {
        const thread = new Worker(fixture(name), { workerData: { path, repository: folder.path } });
        await once(thread, 'message');
        await thread.terminate();
      }
    }
    // And what the ended threads shared still runs.
    await using session = await new TorchScriptEngine().load(artifactIn(folder, 'again.pt', torchModel('Slow')));
    const x: Tensor = { type: 'float32', shape: [768, 768], data: new Float32Array(768 * 768).fill(1e-3) };
    assert.equal((await session.run({ x })).outputs['output']?.shape.length, 0);
  });

  it('exits with its own code in the middle of a forward, every time', () => {
    using folder = new TempFolder();
    folder.write('slow.pt', torchModel('Slow'));
    for (let round = 0; round < 3; round++) {
      const { status, signal, stderr } = spawnSync(process.execPath, [fixture('exit-during-run.ts'), folder.path], {
        encoding: 'utf8',
      });
      assert.deepEqual({ status, signal, stderr }, { status: 7, signal: null, stderr: '' });
    }
  });

  it('answers the same or not at all, whichever bit of a file is flipped', async () => {
    using folder = new TempFolder();
    const engine = new TorchScriptEngine();
    const whole = torchModel('Linear');
    const x: Tensor = { type: 'float32', shape: [1, 16], data: Float32Array.from({ length: 16 }, (_, at) => at / 7) };
    const answerOf = async (name: string, bytes: Uint8Array): Promise<unknown> => {
      await using session = await engine.load(artifactIn(folder, name, bytes));
      return (await session.run({ x })).outputs;
    };
    const isRefusal = (error: unknown): boolean => isInferkvError(error, 'ERR_INFERKV_ARTIFACT_INVALID');
    const expected = await answerOf('whole.pt', whole);
    const random = createRandom(11);
    let refused = 0;
    let loaded = 0;
    for (let round = 0; round < 4000; round++) {
      const flipped = Buffer.from(whole);
      const at = random.below(flipped.length);
      flipped[at] = (flipped[at] ?? 0) ^ (1 << random.below(8));
      try {
        checkArchive(flipped, 'flipped.pt');
      } catch (error) {
        assert.ok(isRefusal(error), String(error));
        refused++;
        continue;
      }
      // What passes lies where nobody reads, like padding and dates, or where libtorch itself looks.
      if (loaded++ >= LOADED_FLIPS) continue;
      const answer = await answerOf(`flip-${round}.pt`, flipped).catch((error: unknown) => {
        assert.ok(isRefusal(error), String(error));
        return expected;
      });
      assert.deepEqual(answer, expected, `byte ${at}`);
    }
    assert.ok(refused > 2000 && loaded > LOADED_FLIPS, `${refused} refused, ${loaded} loaded`);
  });

  it('refuses a file that is cut, at whatever place', async () => {
    using folder = new TempFolder();
    const engine = new TorchScriptEngine();
    const whole = torchModel('Linear');
    const random = createRandom(12);
    for (let round = 0; round < 20; round++) {
      const artifact = artifactIn(folder, `cut-${round}.pt`, whole.subarray(0, 1 + random.below(whole.length - 1)));
      await assert.rejects(engine.load(artifact), (error) => isInferkvError(error, 'ERR_INFERKV_ARTIFACT_INVALID'));
    }
  });
});
