import type { Clock } from '../base/clock.ts';
import type { CoarseClock } from './coarse-clock.ts';

const NEVER = Number.POSITIVE_INFINITY;

// A step in the background looks at no more than this many slots: ten microseconds.
const STEP_SLOTS = 1024;
// Within a minute each slot is looked at once, by steps no closer than 10 ms and no further apart than a second.
const PASS_MS = 60_000;
const MIN_PAUSE_MS = 10;
const MAX_PAUSE_MS = 1000;

/** Whose entries expire. */
export interface ExpiringEntries {
  readonly table: {
    /** Slots that hold an entry or held one. */
    readonly length: number;
  };
  /** Takes an expired entry out; `clear` is called for it. */
  expire(slot: number): void;
}

/**
 * When entries expire, by slot. Costs nothing until the first entry has an end; while there are such, the dead are
 * swept in the background in bounded steps, so that none stays longer than about a minute, and some on each insertion.
 */
export class Expiry {
  /** Milliseconds on the clock, `Infinity` for never; `undefined` while no entry ever had an end. */
  at: Float64Array | undefined;
  readonly #clock: Clock;
  readonly #time: CoarseClock;
  readonly #entries: ExpiringEntries;
  #timed = 0;
  #next = 0;
  #timer: { cancel(): void } | undefined;

  constructor(clock: Clock, time: CoarseClock, entries: ExpiringEntries) {
    this.#clock = clock;
    this.#time = time;
    this.#entries = entries;
  }

  /** Notes that the entry in `slot`, which has just come, expires in so many milliseconds. */
  set(slot: number, ttlMs: number): void {
    if (ttlMs === NEVER) {
      if (this.at !== undefined) this.#columnFor(slot)[slot] = NEVER;
      return;
    }
    // An entry must not expire early, so here the clock is read exactly.
    this.#columnFor(slot)[slot] = this.#time.exact() + ttlMs;
    this.#timed++;
    this.#wait();
  }

  /** Notes that the entry in `slot` is gone. */
  clear(slot: number): void {
    const { at } = this;
    if (at === undefined || at[slot] === NEVER) return;
    at[slot] = NEVER;
    this.#timed--;
  }

  /** Whether the entry in `slot` has expired. */
  isOver(slot: number): boolean {
    return this.at !== undefined && (this.at[slot] as number) <= this.#time.now();
  }

  /** Looks at some slots, from where it stopped, and takes out those that have expired. */
  sweep(limit: number): void {
    if (this.#timed === 0) return;
    const at = this.at as Float64Array;
    const now = this.#time.now();
    const slots = this.#entries.table.length;
    for (let looked = Math.min(limit, slots); looked > 0; looked--) {
      if (this.#next >= slots) this.#next = 0;
      const slot = this.#next++;
      if ((at[slot] as number) <= now) this.#entries.expire(slot);
    }
  }

  /** Ends the sweeping. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #wait(): void {
    if (this.#timer !== undefined) return;
    const pauseMs = Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, (PASS_MS * STEP_SLOTS) / this.#entries.table.length));
    this.#timer = this.#clock.after(pauseMs, this.#step);
  }

  readonly #step = (): void => {
    this.#timer = undefined;
    this.sweep(STEP_SLOTS);
    if (this.#timed > 0) this.#wait();
  };

  #columnFor(slot: number): Float64Array {
    const { at } = this;
    if (at !== undefined && slot < at.length) return at;
    const column = new Float64Array(Math.max(2 * (at?.length ?? 0), this.#entries.table.length, slot + 1)).fill(NEVER);
    if (at !== undefined) column.set(at);
    this.at = column;
    return column;
  }
}
