/** What is counted of writes held back. */
export interface WriteBackStats {
  readonly dirtyBytes: number;
  readonly dirtyEntries: number;
  /** Age of what has been held back longest; 0 if nothing is. */
  readonly oldestMs: number;
  /** Writes of an earlier process that wait for room. */
  readonly backlog: number;
  /** Writes that took the place of one of the same name which was never made. */
  readonly coalesced: number;
  readonly flushed: number;
  readonly retried: number;
  readonly through: number;
  readonly dropped: number;
  /** Writes that were invalidated before they were made. */
  readonly discarded: number;
  /** Writes of an earlier process. */
  readonly replayed: number;
  /** Acknowledged, and refused by the target: too large, no room, or out of date. */
  readonly refused: number;
  /** Acknowledged, and not wanted any more when their turn came. */
  readonly expired: number;
  /** Acknowledged without a journal, and not written when it was closed. */
  readonly lost: number;
}

type Counted = Exclude<keyof WriteBackStats, 'dirtyBytes' | 'dirtyEntries' | 'oldestMs' | 'backlog'>;

/** What only grows. */
export type WriteCounts = Record<Counted, number>;

/** Nothing counted yet. */
export function noCounts(): WriteCounts {
  return {
    coalesced: 0,
    flushed: 0,
    retried: 0,
    through: 0,
    dropped: 0,
    discarded: 0,
    replayed: 0,
    refused: 0,
    expired: 0,
    lost: 0,
  };
}
