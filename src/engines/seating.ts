import { availableParallelism } from 'node:os';

import { InferkvError } from '../base/errors.ts';
import { computeScheduler } from './compute-scheduler.ts';
import { DEFAULT_MAX_QUEUE, type SessionOptions } from './engine.ts';

/** How many threads work for a session, and how many runs wait for them. */
export interface Seating {
  readonly threads: number;
  readonly workers: number;
  readonly maxQueue: number;
}

/**
 * What a session's options say of threads, with the defaults for what they leave out.
 *
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`
 */
export function seatingOf(options: SessionOptions): Seating {
  const seating: Seating = {
    threads: computeScheduler.clamp(options.threads ?? availableParallelism()),
    workers: options.workers ?? 1,
    maxQueue: options.maxQueue ?? DEFAULT_MAX_QUEUE,
  };
  for (const [name, value] of Object.entries(seating)) {
    if (Number.isSafeInteger(value) && value >= 1) continue;
    throw new InferkvError(
      'ERR_INFERKV_CONFIG_INVALID',
      `session.${name} must be a whole number from 1 up, not ${value}.`,
    );
  }
  return seating;
}
