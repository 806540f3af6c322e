const FIRST_SHARE = 0.01;
const MAX_SHARE = 0.99;
/** The first step, and the one after the workload changed. */
const STEP = 0.125;
/** Steps get smaller, so that the share comes to rest. */
const STEP_DECAY = 0.98;
/** A change of the hit rate from which on the workload counts as another one; more than a step brings by itself. */
const RESTART_AT = 0.15;
/**
 * Requests an entry between two steps: fewer see noise, more come late. Caffeine takes ten and half the step; on attention
 * blocks, where a trace holds some tens of requests an entry, that came too late (docs/policies.md).
 */
const SAMPLE_FACTOR = 2;
const MIN_ENTRIES = 16;

/**
 * Finds the window's share of the budget by hill climbing: as long as the hit rate rises it goes on, when it falls it
 * turns around.
 *
 * Source: Einziger et al., "Adaptive software cache management", Middleware 2018, https://doi.org/10.1145/3274808.3274816
 */
export class WindowClimber {
  #share = FIRST_SHARE;
  #step = STEP;
  #hits = 0;
  #requests = 0;
  #lastRate = 0;

  /** The window's share of the budget now. */
  get share(): number {
    return this.#share;
  }

  /** Notes a request while there are that many entries; `true` if the share may have changed. */
  sees(isHit: boolean, entries: number): boolean {
    this.#requests++;
    if (isHit) this.#hits++;
    if (this.#requests < SAMPLE_FACTOR * Math.max(MIN_ENTRIES, entries)) return false;
    const rate = this.#hits / this.#requests;
    const change = rate - this.#lastRate;
    if (change < 0) this.#step = -this.#step;
    this.#share = Math.min(MAX_SHARE, Math.max(0, this.#share + this.#step));
    this.#step = Math.abs(change) >= RESTART_AT ? Math.sign(this.#step) * STEP : this.#step * STEP_DECAY;
    this.#lastRate = rate;
    this.#hits = 0;
    this.#requests = 0;
    return true;
  }
}
