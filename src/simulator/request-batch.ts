const FIRST_REFERENCES = 1024;

/** What stands for a size or a cost that a trace does not tell. */
export const UNKNOWN = -1;

type Column = Float64Array | Uint32Array | Int32Array;

/**
 * A piece of a trace in columns: requests in their order, each of one reference to an entry, or of a chain of them.
 *
 * ```
 *   ids    | 0 1 2 3 | 0 1 7 | 9 |       references
 *   ends         4       7     8         where each request's references end
 * ```
 */
export class RequestBatch {
  /** The entry's id: a whole number as the trace has it, or 53 bits of a hash of its text. */
  ids: Float64Array = new Float64Array(FIRST_REFERENCES);
  /** 32 well-mixed bits of the id; the policies' identity. */
  hashes: Uint32Array = new Uint32Array(FIRST_REFERENCES);
  /** Bytes, or `UNKNOWN`. */
  sizes: Float64Array = new Float64Array(FIRST_REFERENCES);
  /** Milliseconds to compute or load it, or `UNKNOWN`. */
  costs: Float64Array = new Float64Array(FIRST_REFERENCES);
  ends: Int32Array = new Int32Array(FIRST_REFERENCES);
  /** Milliseconds on the trace's clock, a request each. */
  times: Float64Array = new Float64Array(FIRST_REFERENCES);
  /** References that are in. */
  length = 0;
  /** Requests that are in. */
  requests = 0;

  /** Adds a reference to the request that is being read. */
  add(id: number, sizeBytes: number, costMs: number): void {
    const at = this.length++;
    if (at === this.ids.length) this.#grow();
    this.ids[at] = id;
    this.hashes[at] = hashOf(id);
    this.sizes[at] = sizeBytes;
    this.costs[at] = costMs;
  }

  /** Ends the request that is being read. */
  endRequest(timeMs: number): void {
    this.times[this.requests] = timeMs;
    this.ends[this.requests++] = this.length;
  }

  clear(): void {
    this.length = 0;
    this.requests = 0;
  }

  #grow(): void {
    const capacity = 2 * this.ids.length;
    this.ids = copied(this.ids, new Float64Array(capacity));
    this.hashes = copied(this.hashes, new Uint32Array(capacity));
    this.sizes = copied(this.sizes, new Float64Array(capacity));
    this.costs = copied(this.costs, new Float64Array(capacity));
    // Every request has a reference, so there are never more requests.
    this.ends = copied(this.ends, new Int32Array(capacity));
    this.times = copied(this.times, new Float64Array(capacity));
  }
}

function copied<T extends Column>(from: Column, to: T): T {
  to.set(from);
  return to;
}

function hashOf(id: number): number {
  let mixed = (id >>> 0) ^ Math.imul((id / 4_294_967_296) | 0, 0x9e3779b1);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

/** Bytes of a reference's entry, as replays count them: one without bytes still has a record. */
export function sizeOf(batch: RequestBatch, at: number): number {
  return Math.max(1, batch.sizes[at] ?? 1);
}

/** Milliseconds of a reference's entry, as replays count them: where nobody knows them, all are alike. */
export function costOf(batch: RequestBatch, at: number): number {
  const costMs = batch.costs[at] ?? UNKNOWN;
  return costMs < 0 ? 1 : costMs;
}
