/**
 * Is told of the uses of a partition: the what-if and the recorder are such. A partition without one pays a comparison a use.
 *
 * Contract: constant time, amortised; never throws, waits, or calls the partition back.
 *
 * Caller invariants:
 * - Once a request: for a hit when it is answered, for a miss when its value is there, kept or not, since only then size and cost
 *   are known. Whoever joined another's load is a request of its own.
 * - For single entries `wants` first, and `used` at once if it says so and never otherwise, so that nothing is looked up or put
 *   into boxes for those whom nobody counts.
 * - An identity is 32 bits that equal keys share, as the policy gets them; signed, they travel without a box.
 */
export interface UseListener {
  /** Whether `used` is to be called for this use of the entry. */
  wants(identity: number): boolean;
  /** An entry was used: bytes with the record's overhead, milliseconds to load or compute it. */
  used(key: string, identity: number, sizeBytes: number, costMs: number, isHit: boolean): void;
  /**
   * A chain was asked for, from its root on; size and cost are those of each block, and the first `hits` were found. Both lists
   * are read during the call only.
   */
  usedChain(
    keys: readonly string[],
    identities: ArrayLike<number>,
    sizeBytes: number,
    costMs: number,
    hits: number,
  ): void;
}

/** What a partition knows of an entry that was used, by slot. */
export interface UsedEntries {
  /** 32 bits that equal keys share, at hand without a look at the key. */
  hashOf(slot: number): number;
  /** 32 other bits of the key, which tell it from those of the same hash. */
  fingerprintOf(slot: number): number;
  /** Bytes with the record's overhead. */
  chargedBytes(slot: number): number;
  costMs(slot: number): number;
}

/**
 * Is told of the uses of a heap partition as the policy is, in batches, by one who keeps a mark for each slot: a hit then costs
 * nothing where it happens, and a comparison in the batch if it is not in the sample.
 *
 * Contract: as of `UseListener`. Caller invariants:
 * - `hits` in the order of the hits, before anything else is told and before any of these slots is given to another entry.
 * - A miss by `usedAs`, if `wantsMark` says so, and never otherwise.
 */
export interface UseSampler {
  /** What tells whether an entry is in the sample, for as long as it lies there: 31 bits, from its hash. */
  markOf(hash: number): number;
  /** Whether `usedAs` is to be called for this use. */
  wantsMark(mark: number): boolean;
  /** An entry was used that was not there. */
  usedAs(hash: number, fingerprint: number, sizeBytes: number, costMs: number): void;
  /** These slots were found: the first `count` of the list, which is read during the call only. */
  hits(slots: Int32Array, count: number, marks: Int32Array, entries: UsedEntries): void;
}

/** Whether a listener can be told in batches. */
export function isSampler(listener: UseListener): listener is UseListener & UseSampler {
  return 'markOf' in listener && 'hits' in listener;
}

/** One listener for several: each is told what it wants. */
export function listenersTogether(given: readonly (UseListener | undefined)[]): UseListener | undefined {
  const listeners = given.filter((each) => each !== undefined);
  return listeners.length <= 1 ? listeners[0] : new ListenersTogether(listeners);
}

class ListenersTogether implements UseListener {
  readonly #listeners: readonly UseListener[];
  /** Whether each wants the use that was asked about last. */
  readonly #wants: boolean[];

  constructor(listeners: readonly UseListener[]) {
    this.#listeners = listeners;
    this.#wants = listeners.map(() => false);
  }

  wants(identity: number): boolean {
    let anybody = false;
    for (const [at, listener] of this.#listeners.entries()) {
      const wants = listener.wants(identity);
      this.#wants[at] = wants;
      anybody ||= wants;
    }
    return anybody;
  }

  used(key: string, identity: number, sizeBytes: number, costMs: number, isHit: boolean): void {
    for (const [at, listener] of this.#listeners.entries()) {
      if (this.#wants[at] === true) listener.used(key, identity, sizeBytes, costMs, isHit);
    }
  }

  usedChain(...told: Parameters<UseListener['usedChain']>): void {
    for (const listener of this.#listeners) listener.usedChain(...told);
  }
}
