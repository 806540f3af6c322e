import type { Holding } from './holding.ts';
import type { FetchStatus, TierName } from './partition.ts';

/** A value that a caller got, as a hold that is counted already: what a lease is made of. */
export interface Share<V> {
  readonly holding: Holding<V>;
  readonly status: FetchStatus;
  readonly tier: TierName | undefined;
}
