/** Counters of a store since it was made, and what it holds now. `liveBytes + retiredBytes + grantedBytes + freeBytes = arenaBytes`. */
export interface SharedMemoryStats {
  readonly entries: number;
  readonly budgetBytes: number;
  /** Records, index and the areas of threads; taken from the budget at the beginning. */
  readonly controlBytes: number;
  /** What entries can lie in. */
  readonly arenaBytes: number;
  /** What entries take. */
  readonly liveBytes: number;
  /** What their values and metadata take of that. */
  readonly askedBytes: number;
  /** What left and is still leased. */
  readonly retiredBytes: number;
  /** What threads have in advance, or are writing. */
  readonly grantedBytes: number;
  readonly freeBytes: number;
  readonly hits: number;
  readonly misses: number;
  /** Hits of other threads that came too fast for the policy to hear of. */
  readonly unheardHits: number;
  /** Milliseconds of loading or computing that hits made unnecessary. */
  readonly savedMs: number;
  readonly insertions: number;
  readonly evictions: number;
  /** Evictions that were not the policy's choice but made a long enough run of free memory. */
  readonly displacements: number;
  readonly expirations: number;
  /** Values that were not kept, and grants that were not made, for lack of room. */
  readonly refusals: number;
  /** Leases held now, of all threads. */
  readonly activeLeases: number;
  /** Threads attached now, the owner not counted. */
  readonly threads: number;
  /** Messages that no thread of ours would send. */
  readonly unreadableMessages: number;
}
