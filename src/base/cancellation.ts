import { InferkvError, isInferkvError } from './errors.ts';
import type { Clock } from './clock.ts';

/** The error that an aborted signal stands for: its own reason if that is one of ours, else `ERR_INFERKV_ABORTED`. */
export function abortError(signal: AbortSignal): InferkvError {
  const { reason } = signal as { reason: unknown };
  if (isInferkvError(reason)) return reason;
  return new InferkvError('ERR_INFERKV_ABORTED', 'The caller gave up before the answer was there.', {
    cause: reason,
  });
}

/** @throws InferkvError what an aborted signal stands for. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw abortError(signal);
}

/** Calls back once when the signal aborts; the function that comes back stops listening. */
export function whenAborted(signal: AbortSignal | undefined, callback: (error: InferkvError) => void): () => void {
  if (signal === undefined) return () => undefined;
  const listener = (): void => callback(abortError(signal));
  signal.addEventListener('abort', listener, { once: true });
  return () => signal.removeEventListener('abort', listener);
}

/** A signal that ends with the caller's own or after `deadlineMs` (`ERR_INFERKV_DEADLINE`), and what frees its timer. */
export interface Cancellation {
  readonly signal: AbortSignal | undefined;
  readonly dispose: () => void;
}

const NOTHING_TO_DISPOSE = (): void => undefined;

/** Joins a caller's signal and a deadline; costs nothing where there is no deadline. */
export function cancellation(
  signal: AbortSignal | undefined,
  deadlineMs: number | undefined,
  clock: Clock,
): Cancellation {
  if (deadlineMs === undefined) return { signal, dispose: NOTHING_TO_DISPOSE };
  const controller = new AbortController();
  const timer = clock.after(Math.max(0, deadlineMs), () => {
    controller.abort(
      new InferkvError(
        'ERR_INFERKV_DEADLINE',
        `There was no answer within the deadline of ${deadlineMs} ms; allow more time or ask for less at once.`,
      ),
    );
  });
  const stop = whenAborted(signal, (error) => controller.abort(error));
  if (signal?.aborted === true) controller.abort(abortError(signal));
  return {
    signal: controller.signal,
    dispose: () => {
      timer.cancel();
      stop();
    },
  };
}

/** Waits for a promise that cannot be stopped, no longer than the signal allows; what it settles to later is dropped. */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  if (signal.aborted) {
    promise.catch(() => undefined);
    return Promise.reject(abortError(signal));
  }
  return new Promise<T>((resolve, reject) => {
    const stop = whenAborted(signal, reject);
    promise.then(resolve, reject).finally(stop);
  });
}
