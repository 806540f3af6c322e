import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';

import { attachResults, createInferenceCache, tensor } from '../../src/index.ts';
import { isInferkvError } from '../../src/base/errors.ts';
import type { ThreadOfService } from '../fixtures/attached-results-thread.ts';
import { scaling } from '../support/models.ts';
import { TempFolder } from '../support/temp.ts';

const entry = new URL('../fixtures/attached-results-thread.ts', import.meta.url);

describe('results in worker threads of a service', () => {
  it('are found and leased there without asking, and what such a thread leaves is found by all', async () => {
    using folder = new TempFolder();
    folder.write('double.onnx', scaling(2));
    await using cache = createInferenceCache({
      repository: folder.path,
      partitions: { results: { storage: 'shared', budgetBytes: '16MB' } },
    });
    const model = cache.model('double');
    await model.run({ x: tensor(Float32Array.of(1)) });
    const handle = cache.handle('results');
    const workerData: ThreadOfService = { handle, modelKey: await model.modelKey() };
    const worker = new Worker(entry, { workerData, transferList: [handle.port] });
    const ended = once(worker, 'exit');
    const [found] = await once(worker, 'message');
    assert.deepEqual(found, [
      { status: 'hit', values: [2], isShared: true },
      { status: 'miss', values: [200], isShared: true },
    ]);
    const answer = await model.run({ x: tensor(Float32Array.of(2)) });
    assert.deepEqual([answer.cache.status, [...(answer.outputs['y']?.data ?? [])]], ['hit', [200]]);
    await ended;
    assert.equal(cache.stats().results.activeLeases, 0);
  });

  it('are not to be had where they lie in one thread, or are no results', async () => {
    using folder = new TempFolder();
    await using cache = createInferenceCache({ repository: folder.path });
    assert.throws(
      () => cache.handle('results'),
      (error) => isInferkvError(error, 'ERR_INFERKV_CONFIG_INVALID') && /storage/.test(error.message),
    );
    for (const handle of [undefined, {}, { kind: 'inferkv/shared-partition' }]) {
      assert.throws(
        () => attachResults(handle as never),
        (error) => isInferkvError(error, 'ERR_INFERKV_HANDLE_INVALID'),
      );
    }
  });
});
