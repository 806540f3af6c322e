import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { InferkvError, isInferkvError } from '../base/errors.ts';
import { OpenCalls } from './open-calls.ts';

const isClosed = (error: unknown): boolean => isInferkvError(error, 'ERR_INFERKV_CLOSED');

describe('open calls', () => {
  it('are waited for before what they need is let go, once', async () => {
    const calls = new OpenCalls('test');
    const answer = Promise.withResolvers<number>();
    const running = calls.run(undefined, () => answer.promise);
    const failing = calls.run(undefined, () => Promise.reject(new InferkvError('ERR_INFERKV_STORE_FAILED', 'no')));
    await assert.rejects(failing);
    let released = 0;
    const closing = calls.close(() => void released++);
    await assert.rejects(
      calls.run(undefined, async () => 1),
      isClosed,
    );
    assert.equal(released, 0);
    answer.resolve(7);
    assert.equal(await running, 7);
    await closing;
    await calls.close(() => void released++);
    assert.equal(released, 1);
  });

  it('end with their signal, and are still waited for', async () => {
    const calls = new OpenCalls('test');
    const controller = new AbortController();
    const answer = Promise.withResolvers<number>();
    const running = calls.run(controller.signal, () => answer.promise);
    controller.abort();
    await assert.rejects(running, (error) => isInferkvError(error, 'ERR_INFERKV_ABORTED'));
    let isReleased = false;
    const closing = calls.close(() => void (isReleased = true));
    await new Promise(setImmediate);
    assert.equal(isReleased, false);
    // Nobody hears of this, and nobody is alarmed.
    answer.reject(new Error('too late'));
    await closing;
    assert.equal(isReleased, true);
    let asked = false;
    await assert.rejects(new OpenCalls('test').run(AbortSignal.abort(), async () => (asked = true)));
    assert.equal(asked, false);
  });
});
