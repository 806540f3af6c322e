import { availableParallelism } from 'node:os';

import { throwIfAborted, whenAborted } from '../base/cancellation.ts';

interface Waiter {
  readonly threads: number;
  readonly resolve: () => void;
}

/**
 * Grants compute threads: the sum of what is granted never exceeds the cores, whatever number of sessions wants to run.
 * Requests are served in their order, so a run that needs all cores is not starved by many that need one.
 */
export class ComputeScheduler {
  readonly cores: number;
  #free: number;
  readonly #waiters = new Set<Waiter>();

  constructor(cores: number = availableParallelism()) {
    this.cores = cores;
    this.#free = cores;
  }

  /** Threads granted now. */
  get grantedThreads(): number {
    return this.cores - this.#free;
  }

  /** Threads that a request for `threads` is granted: never more than there are cores. */
  clamp(threads: number): number {
    return Math.min(threads, this.cores);
  }

  /** Takes threads at once if they are free and nobody waits; the caller releases as many. */
  tryAcquire(threads: number): boolean {
    const wanted = this.clamp(threads);
    if (this.#waiters.size > 0 || wanted > this.#free) return false;
    this.#free -= wanted;
    return true;
  }

  /** Takes threads, waiting in line until they are free or the signal ends it; the caller releases as many. */
  async acquire(threads: number, signal?: AbortSignal): Promise<void> {
    throwIfAborted(signal);
    if (this.tryAcquire(threads)) return;
    await new Promise<void>((resolve, reject) => {
      const stop = whenAborted(signal, (error) => {
        this.#waiters.delete(waiter);
        reject(error);
        this.#serve();
      });
      const waiter: Waiter = {
        threads: this.clamp(threads),
        resolve: () => {
          stop();
          resolve();
        },
      };
      this.#waiters.add(waiter);
    });
  }

  /** Gives back what was acquired. */
  release(threads: number): void {
    this.#free += this.clamp(threads);
    this.#serve();
  }

  #serve(): void {
    for (const waiter of this.#waiters) {
      if (waiter.threads > this.#free) return;
      this.#free -= waiter.threads;
      this.#waiters.delete(waiter);
      waiter.resolve();
    }
  }
}

/** The scheduler that all engines of this process share. */
export const computeScheduler: ComputeScheduler = new ComputeScheduler();
