import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { abortError, cancellation, orAborted, throwIfAborted } from './cancellation.ts';
import { FakeClock } from './clock.ts';
import { InferkvError, isInferkvError } from './errors.ts';

const codeOf = (signal: AbortSignal | undefined): string | undefined =>
  signal?.aborted === true ? abortError(signal).code : undefined;

describe('cancellation', () => {
  it('costs nothing without a deadline', () => {
    const { signal } = new AbortController();
    assert.equal(cancellation(signal, undefined, new FakeClock()).signal, signal);
    assert.equal(cancellation(undefined, undefined, new FakeClock()).signal, undefined);
  });

  it('ends with the deadline or with the caller, whichever is first', () => {
    const clock = new FakeClock();
    const caller = new AbortController();
    const late = cancellation(caller.signal, 50, clock);
    const early = cancellation(caller.signal, 10, clock);
    clock.advance(10);
    assert.deepEqual([codeOf(early.signal), codeOf(late.signal)], ['ERR_INFERKV_DEADLINE', undefined]);
    caller.abort(new Error('mine'));
    clock.advance(100);
    assert.deepEqual([codeOf(early.signal), codeOf(late.signal)], ['ERR_INFERKV_DEADLINE', 'ERR_INFERKV_ABORTED']);
    assert.equal(codeOf(cancellation(AbortSignal.abort(), 50, clock).signal), 'ERR_INFERKV_ABORTED');
  });

  it('listens no longer once it is disposed of', () => {
    const clock = new FakeClock();
    const caller = new AbortController();
    const joined = cancellation(caller.signal, 10, clock);
    joined.dispose();
    clock.advance(20);
    caller.abort();
    assert.equal(joined.signal?.aborted, false);
  });

  it('keeps a coded reason, and gives every other a code', () => {
    const coded = new InferkvError('ERR_INFERKV_OVERLOADED', 'full');
    assert.equal(abortError(AbortSignal.abort(coded)), coded);
    const reason = new Error('mine');
    assert.equal(abortError(AbortSignal.abort(reason)).cause, reason);
    assert.throws(
      () => throwIfAborted(AbortSignal.abort()),
      (error) => isInferkvError(error, 'ERR_INFERKV_ABORTED'),
    );
    throwIfAborted(undefined);
  });

  it('waits for what cannot be stopped no longer than it is let', async () => {
    const { promise, reject } = Promise.withResolvers<number>();
    const caller = new AbortController();
    const waiting = orAborted(promise, caller.signal);
    caller.abort();
    await assert.rejects(waiting, (error) => isInferkvError(error, 'ERR_INFERKV_ABORTED'));
    await assert.rejects(orAborted(promise, caller.signal));
    // What it comes to later is nobody's unhandled rejection.
    reject(new Error('late'));
    assert.equal(await orAborted(Promise.resolve(5), new AbortController().signal), 5);
  });
});
