import type { Clock } from '../base/clock.ts';

// Reading the machine's clock takes as long as a lookup.
const PRECISION_MS = 1;

/**
 * A clock that is read often and need not be exact: behind the real one by up to a millisecond and the turn of the event
 * loop that lies between, never ahead of it. While nobody asks, no timer runs.
 */
export class CoarseClock {
  readonly #clock: Clock;
  #now = 0;
  #fresh = false;
  readonly #age = (): void => {
    this.#fresh = false;
  };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Milliseconds on the clock's own scale. */
  now(): number {
    return this.#fresh ? this.#now : this.exact();
  }

  /** The same, exactly. */
  exact(): number {
    this.#now = this.#clock.now();
    if (!this.#fresh) {
      this.#fresh = true;
      this.#clock.after(PRECISION_MS, this.#age);
    }
    return this.#now;
  }
}
