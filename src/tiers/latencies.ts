const KEPT = 512;

/** The latest times of a kind of call, for percentiles. */
export class Latencies {
  readonly #times = new Float64Array(KEPT);
  #count = 0;

  add(ms: number): void {
    this.#times[this.#count++ % KEPT] = ms;
  }

  /** Milliseconds that the share `of` of the latest calls did not exceed; `undefined` where there were none. */
  percentile(of: number): number | undefined {
    const known = this.#times.slice(0, Math.min(this.#count, KEPT)).toSorted();
    return known[Math.min(known.length - 1, Math.floor(of * known.length))];
  }
}
