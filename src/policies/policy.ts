/**
 * What a policy may know: numbers about slots, never keys or values. The partition (or the simulator) keeps these
 * facts; reading them is cheap.
 */
export interface PolicyContext {
  /** Bytes the entry in `slot` takes, record overhead included. */
  sizeBytes(slot: number): number;
  /** Milliseconds it took to load or compute the entry in `slot`. */
  costMs(slot: number): number;
  /** A 32-bit fingerprint of what lies in `slot`, by which a policy may know it again after it was evicted. */
  identity(slot: number): number;
  /** The slot that the entry in `slot` hangs on (the block before it in a chain), or -1. */
  parent(slot: number): number;
  /** Whether the entry in `slot` is leased or pinned, and so must stay. */
  isPinned(slot: number): boolean;
  /** The clock, in milliseconds. */
  now(): number;
  /** A number in [0, 1) from the partition's seed. */
  random(): number;
  /** The partition's budget in bytes; it may change between calls. */
  readonly budgetBytes: number;
}

/** Why an entry leaves: `evicted` as this policy's own victim, `removed` for any other reason (expiry, delete, replace). */
export type Departure = 'evicted' | 'removed';

/**
 * Decides what leaves a full partition.
 *
 * Contract:
 * - Slots are small whole numbers, used again after their entry left. Between `insert` and `leave` a slot holds one entry.
 * - `victim` returns a slot that holds an entry and is not pinned, or -1 if there is none. It changes nothing that a
 *   caller can see: the entry stays until `leave` is called for it.
 * - Every method takes constant or logarithmic time, amortised; pinned slots that `victim` passes over may add to that.
 * - The same calls with the same context give the same victims.
 *
 * Caller invariants:
 * - `insert` only for a free slot, with its facts in place; `touch`, `update` and `leave` only for one that holds an entry.
 * - One thread calls, never from inside another call.
 */
export interface Policy {
  /** The name it has in the registry and in configuration. */
  readonly name: string;
  /** An entry came to lie in `slot`. */
  insert(slot: number): void;
  /** The entry in `slot` was read. */
  touch(slot: number): void;
  /**
   * The entries in the first `count` of `slots` were read, in this order: the same as `touch` for each. For policies whose
   * `touch` is so short that the call itself counts; left out by others.
   */
  touchAll?(slots: Int32Array, count: number): void;
  /** Size or cost of the entry in `slot` changed. */
  update(slot: number): void;
  /** The entry in `slot` is gone. */
  leave(slot: number, why: Departure): void;
  /** The slot that should leave next, or -1 if every entry is pinned or there is none. */
  victim(): number;
}

/** Makes a policy for one partition. */
export type PolicyFactory = (context: PolicyContext) => Policy;
