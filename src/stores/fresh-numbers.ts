import { createHash } from 'node:crypto';

import type { WallClock } from '../base/clock.ts';

const PER_MS = 1000;

/**
 * Numbers for counters that begin anew in a server that may have forgotten them: microseconds since 1970, and above every
 * number that this process has seen. A counter that grows by less than a million a second never reaches the number that its
 * successor begins with, so nothing is given twice while the machines' clocks differ by less than a counter has lived.
 *
 * Source: hybrid logical clocks, https://cse.buffalo.edu/tech-reports/2014-04.pdf
 */
export class FreshNumbers {
  readonly #wallClock: WallClock;
  #highest = 0;

  constructor(wallClock: WallClock) {
    this.#wallClock = wallClock;
  }

  /** What a counter may begin with, if it is not there. Safe integers until the year 2255. */
  next(): number {
    return Math.max(Math.floor(this.#wallClock() * PER_MS), this.#highest + 1);
  }

  /** Takes note of what a server said; gives it back. */
  seen(number: number): number {
    if (number > this.#highest) this.#highest = number;
    return number;
  }
}

/** A scope or a grant as part of a key: 43 characters, whatever it holds. */
export function counterName(name: string): string {
  return createHash('sha256').update(name).digest('base64url');
}
