import assert from 'node:assert/strict';

import { isInferkvError, type ErrorCode } from '../../src/base/errors.ts';

/** Holds a promise to failing with a code, and with a message that says so much. */
export function rejects(promise: Promise<unknown>, code: ErrorCode, says: RegExp = /./): Promise<void> {
  return assert.rejects(promise, (error) => {
    assert.ok(isInferkvError(error, code), `${code} was expected, not ${String(error)}`);
    assert.match(error.message, says);
    return true;
  });
}
