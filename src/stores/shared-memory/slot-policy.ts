/** Why an entry leaves: `evicted` for room, `removed` for any other reason (expiry, delete, replace). */
export type SlotDeparture = 'evicted' | 'removed';

/** More exactly: `outdated` expired, or of an earlier epoch; `replaced` by a newer value of its key; `deleted` by the owner. */
export type SlotCause = 'evicted' | 'outdated' | 'replaced' | 'deleted';

/**
 * What the store asks when it needs room; the policies of `policies/` fit as they are.
 *
 * Contract: as in `policies/policy.ts`. Slots are whole numbers below `maxEntries`; `victim` gives one that holds an entry
 * and is not pinned, or -1. The store is never called from inside of these.
 */
export interface SlotPolicy {
  insert(slot: number): void;
  touch(slot: number): void;
  leave(slot: number, why: SlotDeparture, cause: SlotCause): void;
  victim(): number;
}

/** What is known of the entry in a slot; for the owner, between `insert` and `leave`. */
export interface SlotFacts {
  readonly budgetBytes: number;
  readonly maxEntries: number;
  /** Bytes it takes of the arena, rounding included. */
  sizeBytes(slot: number): number;
  /** Bytes of its value. */
  lengthBytes(slot: number): number;
  costMs(slot: number): number;
  /** When it expires, on the owner's clock; `Infinity` for never. */
  expiresAt(slot: number): number;
  /** A 32-bit fingerprint of its key. */
  identity(slot: number): number;
  /** Whether some thread leases it, as of the beginning of this search for room. */
  isPinned(slot: number): boolean;
  /** A copy of its key. */
  digest(slot: number): Uint8Array;
  /** A copy of what its writer said about it. */
  metadata(slot: number): Uint8Array;
}

/** Makes the policy of one store. */
export type SlotPolicyFactory = (facts: SlotFacts) => SlotPolicy;
