import { cancellation } from '../base/cancellation.ts';
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';

/** How long reads of a store take, as far as is known. */
export interface ReadSpeed {
  expectedMs(bytes: number): number | undefined;
  learn(bytes: number, tookMs: number): void;
}

/** What values of a group are like on average. */
interface Likeness {
  sizeBytes: number;
  costMs: number;
}

/** What a decision weighs. */
export interface WorthStats {
  /** Fetches that were not made, as computing is faster. */
  readonly skipped: number;
  /** Fetches that were given up when they had taken as long as computing. */
  readonly abandoned: number;
}

const WEIGHT = 0.2;
const MAX_GROUPS = 1024;
// Of the fetches that are not worth their while one in so many is made, or a tier that was slow once would be so for ever.
const PROBE = 1 / 64;
// Below that nobody can tell the difference, and timers are no better.
const MIN_PATIENCE_MS = 2;

/**
 * Load or recompute: weighs what a fetch from one store is likely to take against what the value costs to compute. Sizes and
 * costs are learnt by group; where nothing is known, the fetch is made.
 */
export class Worth {
  readonly #speed: ReadSpeed;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #groups = new Map<string, Likeness>();
  #skipped = 0;
  #abandoned = 0;

  constructor(speed: ReadSpeed, clock: Clock, random: Random) {
    this.#speed = speed;
    this.#clock = clock;
    this.#random = random;
  }

  /** A value of a group had that size, and cost so much to compute. */
  learn(group: string | undefined, sizeBytes: number, costMs: number): void {
    if (group === undefined) return;
    const known = this.#groups.get(group);
    if (known !== undefined) {
      known.sizeBytes += WEIGHT * (sizeBytes - known.sizeBytes);
      known.costMs += WEIGHT * (costMs - known.costMs);
      return;
    }
    const [oldest] = this.#groups.keys();
    if (this.#groups.size >= MAX_GROUPS && oldest !== undefined) this.#groups.delete(oldest);
    this.#groups.set(group, { sizeBytes, costMs });
  }

  /** Milliseconds that a value of the group costs to compute; `undefined` where that is not known. */
  costMs(group: string | undefined): number | undefined {
    return group === undefined ? undefined : this.#groups.get(group)?.costMs;
  }

  /** What `fetch` gives, if it is worth its while and is there before computing would be; `undefined` otherwise. */
  async fetch<T>(
    group: string | undefined,
    signal: AbortSignal | undefined,
    fetch: (signal: AbortSignal | undefined) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const likeness = group === undefined ? undefined : this.#groups.get(group);
    if (likeness === undefined) return fetch(signal);
    const { sizeBytes, costMs } = likeness;
    const expectedMs = this.#speed.expectedMs(sizeBytes);
    if (expectedMs !== undefined && expectedMs > costMs && this.#random.next() >= PROBE) {
      this.#skipped++;
      return undefined;
    }
    const patience = cancellation(signal, Math.max(costMs, MIN_PATIENCE_MS), this.#clock);
    try {
      const fetched = await fetch(patience.signal);
      if (fetched === undefined && patience.signal?.aborted === true && signal?.aborted !== true) {
        this.#abandoned++;
        // It would have taken longer than this; how much, nobody knows.
        this.#speed.learn(0, 2 * Math.max(costMs, MIN_PATIENCE_MS));
      }
      return fetched;
    } finally {
      patience.dispose();
    }
  }

  stats(): WorthStats {
    return { skipped: this.#skipped, abandoned: this.#abandoned };
  }
}
