import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';

/** `closed`: calls go through; `open`: none does; `half-open`: one goes through, to see. */
export type BreakerState = 'closed' | 'open' | 'half-open';

/** When a breaker opens, and for how long. */
export interface BreakerOptions {
  /** Failures in a row that open it; 5 if left out. */
  readonly failures?: number | undefined;
  /** Milliseconds until the first probe; 500 if left out. Each probe that fails doubles it. */
  readonly firstPauseMs?: number | undefined;
  /** Milliseconds between probes at most; 30,000 if left out. */
  readonly maxPauseMs?: number | undefined;
}

const DEFAULT_FAILURES = 5;
const DEFAULT_FIRST_PAUSE_MS = 500;
const DEFAULT_MAX_PAUSE_MS = 30_000;
// Nodes that lost a store together are not to come back to it together.
const JITTER = 0.5;

/**
 * Keeps calls from a store that fails, so that nobody waits for it: opens after some failures in a row, lets one call through
 * after a pause, and closes when that succeeds.
 *
 * Source: Michael Nygard, Release It!, 2007.
 */
export class Breaker {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #limit: number;
  readonly #firstPauseMs: number;
  readonly #maxPauseMs: number;
  readonly #onChange: (state: BreakerState) => void;
  #state: BreakerState = 'closed';
  #failures = 0;
  #pauseMs: number;
  #probeAt = 0;
  #opened = 0;

  constructor(clock: Clock, random: Random, options: BreakerOptions, onChange: (state: BreakerState) => void) {
    this.#clock = clock;
    this.#random = random;
    this.#limit = options.failures ?? DEFAULT_FAILURES;
    this.#firstPauseMs = options.firstPauseMs ?? DEFAULT_FIRST_PAUSE_MS;
    this.#maxPauseMs = options.maxPauseMs ?? DEFAULT_MAX_PAUSE_MS;
    this.#pauseMs = this.#firstPauseMs;
    this.#onChange = onChange;
  }

  get state(): BreakerState {
    return this.#state;
  }

  /** Times it opened. */
  get opened(): number {
    return this.#opened;
  }

  /** Whether no call could go through now; asks for none. */
  get isShut(): boolean {
    return this.#state === 'half-open' || (this.#state === 'open' && this.#clock.now() < this.#probeAt);
  }

  /** Whether a call may go through; who is let through says by `succeeded`, `failed` or `spared` how it went. */
  admits(): boolean {
    if (this.#state === 'closed') return true;
    if (this.#state === 'half-open' || this.#clock.now() < this.#probeAt) return false;
    this.#turn('half-open');
    return true;
  }

  /** A call came back. */
  succeeded(): void {
    this.#failures = 0;
    if (this.#state !== 'half-open') return;
    this.#pauseMs = this.#firstPauseMs;
    this.#turn('closed');
  }

  /** A call failed, and it was the store's fault. */
  failed(): void {
    this.#failures++;
    // What was let through before it opened says nothing new.
    if (this.#state === 'open') return;
    if (this.#state === 'closed' && this.#failures < this.#limit) return;
    if (this.#state === 'half-open') this.#pauseMs = Math.min(this.#maxPauseMs, 2 * this.#pauseMs);
    this.#probeAt = this.#clock.now() + this.#pauseMs * (1 - JITTER * this.#random.next());
    this.#opened++;
    this.#turn('open');
  }

  /** A call ended without saying anything about the store: its caller gave up. A probe is made again after a pause. */
  spared(): void {
    if (this.#state !== 'half-open') return;
    this.#probeAt = this.#clock.now() + this.#pauseMs * (1 - JITTER * this.#random.next());
    this.#turn('open');
  }

  #turn(state: BreakerState): void {
    this.#state = state;
    this.#onChange(state);
  }
}
