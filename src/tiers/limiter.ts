import { abortError, whenAborted } from '../base/cancellation.ts';
import { InferkvError } from '../base/errors.ts';

interface Waiter {
  start(): void;
}

/** Lets so many run at a time and so many wait; the others are told at once. First come, first served. */
export class Limiter {
  readonly #maxRunning: number;
  readonly #maxWaiting: number;
  readonly #waiting = new Set<Waiter>();
  #running = 0;
  #refused = 0;

  constructor(maxRunning: number, maxWaiting: number) {
    this.#maxRunning = maxRunning;
    this.#maxWaiting = maxWaiting;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Those who were told that there is no place to wait. */
  get refused(): number {
    return this.#refused;
  }

  /** Takes a place if one is free. */
  tryEnter(): boolean {
    if (this.#running >= this.#maxRunning) return false;
    this.#running++;
    return true;
  }

  /**
   * Waits for a place, to be given back by `leave`.
   *
   * @throws InferkvError `ERR_INFERKV_OVERLOADED` where nobody else may wait, or what the signal stands for
   */
  enter(whose: string, signal: AbortSignal): Promise<void> {
    if (this.#waiting.size >= this.#maxWaiting) {
      this.#refused++;
      return Promise.reject(
        new InferkvError(
          'ERR_INFERKV_OVERLOADED',
          `${this.#running} calls of the store ${whose} are under way and ${this.#waiting.size} wait; raise maxConcurrent or maxQueued, or ask for less at once.`,
          { key: whose },
        ),
      );
    }
    if (signal.aborted) return Promise.reject(abortError(signal));
    return new Promise((resolve, reject) => {
      const stop = whenAborted(signal, (error) => {
        this.#waiting.delete(waiter);
        reject(error);
      });
      const waiter = {
        start: () => {
          stop();
          resolve();
        },
      };
      this.#waiting.add(waiter);
    });
  }

  /** Gives a place back: to whoever waits longest. */
  leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#running--;
      return;
    }
    this.#waiting.delete(next);
    next.start();
  }
}
