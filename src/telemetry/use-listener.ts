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
