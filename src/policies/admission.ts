/**
 * What an admission may know. The partition (or the simulator) keeps these facts; reading them is cheap.
 */
export interface AdmissionContext {
  /** Entries that lie in the partition now. */
  entries(): number;
}

/**
 * Decides whether what was just loaded may displace what the policy would evict for it. Any admission goes with any
 * policy; while there is room nobody asks.
 *
 * Contract:
 * - `record` and `admits` take constant time, amortised, and neither allocates.
 * - Memory is bounded by the entries of the partition, and stated by each admission.
 * - The same calls with the same context give the same answers. `admits` may be asked again about the same candidate
 *   without a `record` in between, and then says the same.
 * - A wrong answer costs a hit, never a wrong value: identities are fingerprints, which strangers may share.
 *
 * Caller invariants:
 * - `record` once a request, hit or miss, before `admits` is asked for it.
 * - `admits` for the first victim only, before it leaves; further victims of a large candidate follow it unasked.
 */
export interface Admission {
  /** The name it has in the registry and in configuration. */
  readonly name: string;
  /** The entry of that identity was asked for. */
  record(identity: number): void;
  /**
   * Whether a candidate may displace a victim; both by identity (as `PolicyContext.identity`), bytes, and milliseconds of
   * loading or computing.
   */
  admits(
    candidate: number,
    candidateBytes: number,
    candidateCostMs: number,
    victim: number,
    victimBytes: number,
    victimCostMs: number,
  ): boolean;
}

/** Makes an admission for one partition. */
export type AdmissionFactory = (context: AdmissionContext) => Admission;
