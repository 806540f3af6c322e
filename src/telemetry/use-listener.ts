/**
 * Is told of every use of a partition: by the what-if and the recorder. A partition without one pays a comparison a use.
 *
 * Contract: constant time, amortised; never throws, waits or calls the partition back.
 *
 * Caller invariants:
 * - One call a request: for a hit when it is answered, for a miss when its value is there, kept or not, since only then size and
 *   cost are known. Whoever joined another's load is a request of its own.
 * - `identity` is what the partition's policy gets by the same name; equal keys have equal ones.
 */
export interface UseListener {
  /** An entry was used: bytes with the record's overhead, milliseconds to load or compute it. */
  used(key: string, identity: number, sizeBytes: number, costMs: number, isHit: boolean): void;
  /**
   * A chain was asked for, from its root on; sizes and costs are those of each block. The first `hits` blocks were found. Both lists are read
   * during the call only.
   */
  usedChain(
    keys: readonly string[],
    identities: ArrayLike<number>,
    sizeBytes: number,
    costMs: number,
    hits: number,
  ): void;
}
