import { abortError, whenAborted } from '../base/cancellation.ts';
import type { Clock } from '../base/clock.ts';

/** Those who wait for something to change, so that they look again. */
export class Wakeups {
  readonly #waiting = new Set<() => void>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Has everybody look again. */
  wake(): void {
    for (const wake of this.#waiting) wake();
  }

  /**
   * Waits until something holds; `false` if it did not within so many milliseconds.
   *
   * @throws InferkvError what the signal stands for
   */
  async until(holds: () => boolean, withinMs: number, signal?: AbortSignal): Promise<boolean> {
    const startMs = this.#clock.now();
    while (!holds()) {
      const leftMs = withinMs - (this.#clock.now() - startMs);
      if (leftMs <= 0) return false;
      await this.#woken(leftMs, signal);
    }
    return true;
  }

  #woken(withinMs: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(abortError(signal));
        return;
      }
      const end = (settle: () => void): void => {
        this.#waiting.delete(wake);
        timer.cancel();
        stop();
        settle();
      };
      const wake = (): void => end(resolve);
      const timer = this.#clock.after(withinMs, wake);
      const stop = whenAborted(signal, (error) => end(() => reject(error)));
      this.#waiting.add(wake);
    });
  }
}
