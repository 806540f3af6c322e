import { NEVER, type ReferenceLog } from './reference-log.ts';

/** What a bound is a bound of: hits, bytes of hits, milliseconds saved by hits. */
export interface Bound {
  readonly hits: number;
  readonly hitBytes: number;
  readonly savedMs: number;
}

/**
 * What no cache of so many bytes can exceed, where entries differ in size or cost.
 *
 * To hit, an entry must lie in the cache from one use to the next: it takes its size times that long. All of these together
 * have the budget times the length of the trace. Whatever brings most for what it takes is counted first, the last one in
 * part, until that is used up. A real cache must also fit at each single moment, so it cannot do better; how much worse the
 * best one does is not known (finding out is NP-hard). Each of the three is bounded by itself.
 *
 * Source: Berger, Beckmann and Harchol-Balter, "Practical bounds on optimal caching with variable object sizes" (PFOO-U),
 * SIGMETRICS 2018, https://doi.org/10.1145/3224427
 */
export class FootprintBound {
  readonly #length: number;
  /** Uses that could be hits: what lies in the cache, for how long, and what it brings. */
  readonly #count: number;
  readonly #size: Float64Array;
  readonly #area: Float64Array;
  readonly #bytes: Float64Array;
  readonly #costMs: Float64Array;
  readonly #byHits: Uint32Array;
  readonly #byBytes: Uint32Array;
  readonly #byCost: Uint32Array;

  constructor(log: ReferenceLog, next: Uint32Array) {
    this.#length = log.length;
    const { sizes, costs } = log;
    const again = next.reduce((count, use) => (use === NEVER ? count : count + 1), 0);
    this.#size = new Float64Array(again);
    this.#area = new Float64Array(again);
    this.#bytes = new Float64Array(again);
    this.#costMs = new Float64Array(again);
    let count = 0;
    for (let at = 0; at < next.length; at++) {
      const use = next[at] ?? NEVER;
      if (use === NEVER) continue;
      // An entry whose size changes on the way takes at least the smaller one.
      const size = Math.min(sizes[at] ?? 0, sizes[use] ?? 0);
      this.#size[count] = size;
      this.#area[count] = size * (use - at);
      this.#bytes[count] = sizes[use] ?? 0;
      this.#costMs[count] = costs[use] ?? 0;
      count++;
    }
    this.#count = count;
    this.#byHits = this.#sorted(() => 1);
    this.#byBytes = this.#sorted((at) => this.#bytes[at] ?? 0);
    this.#byCost = this.#sorted((at) => this.#costMs[at] ?? 0);
  }

  at(budgetBytes: number): Bound {
    return {
      hits: this.#fill(this.#byHits, budgetBytes, () => 1),
      hitBytes: this.#fill(this.#byBytes, budgetBytes, (at) => this.#bytes[at] ?? 0),
      savedMs: this.#fill(this.#byCost, budgetBytes, (at) => this.#costMs[at] ?? 0),
    };
  }

  /** The uses in the order of what they bring for what they take, best first. */
  #sorted(worth: (at: number) => number): Uint32Array {
    const price = new Float64Array(this.#count);
    const order = new Uint32Array(this.#count);
    for (let at = 0; at < this.#count; at++) {
      price[at] = (this.#area[at] ?? 0) / Math.max(Number.MIN_VALUE, worth(at));
      order[at] = at;
    }
    return order.toSorted((a, b) => (price[a] ?? 0) - (price[b] ?? 0));
  }

  #fill(order: Uint32Array, budgetBytes: number, worth: (at: number) => number): number {
    let left = budgetBytes * this.#length;
    let sum = 0;
    for (const at of order) {
      if ((this.#size[at] ?? 0) > budgetBytes) continue;
      const area = this.#area[at] ?? 0;
      if (area > left) return sum + (worth(at) * left) / area;
      left -= area;
      sum += worth(at);
    }
    return sum;
  }
}
