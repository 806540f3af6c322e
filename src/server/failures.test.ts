import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { InferkvError, type ErrorCode } from '../base/errors.ts';
import { failureOf } from './failures.ts';

const PATH = '/srv/secret/models/a/1/model.onnx';

describe('errors over HTTP', () => {
  it('name files of the server to operators only', () => {
    const codes: readonly (readonly [ErrorCode, number])[] = [
      ['ERR_INFERKV_MODEL_NOT_FOUND', 404],
      ['ERR_INFERKV_ARTIFACT_CHANGED', 503],
      ['ERR_INFERKV_WORKER_LOST', 503],
      ['ERR_INFERKV_ARTIFACT_INVALID', 500],
      ['ERR_INFERKV_ARTIFACT_MISSING', 500],
      ['ERR_INFERKV_CONFIG_INVALID', 500],
      ['ERR_INFERKV_ENGINE_UNKNOWN', 500],
      ['ERR_INFERKV_PEER_MISSING', 500],
      ['ERR_INFERKV_REPOSITORY_INVALID', 500],
      ['ERR_INFERKV_BUDGET_EXCEEDED', 507],
    ];
    for (const [code, status] of codes) {
      const error = new InferkvError(code, `It is at ${PATH}.`, { key: 'a' });
      const [forClient, forOperator] = [failureOf(error, false), failureOf(error, true)];
      assert.deepEqual([forClient.status, forClient.body.code], [status, code]);
      assert.ok(!forClient.body.error.includes('secret'), code);
      assert.ok(forOperator.body.error.includes(PATH), code);
    }
  });

  it('say when another try is worth it', () => {
    for (const code of ['ERR_INFERKV_OVERLOADED', 'ERR_INFERKV_TENANT_BUSY', 'ERR_INFERKV_WORKER_LOST'] as const) {
      assert.equal(failureOf(new InferkvError(code, ''), false).headers['retry-after'], '1');
    }
    assert.deepEqual(failureOf(new InferkvError('ERR_INFERKV_INPUT_INVALID', ''), false).headers, {});
  });

  it('of ours tell nobody but the log', () => {
    const failure = failureOf(new TypeError(`cannot read ${PATH}`), true);
    assert.deepEqual([failure.status, failure.unexpected, failure.body.code], [500, true, 'ERR_INFERKV_INTERNAL']);
    assert.ok(!failure.body.error.includes('secret'));
  });
});
