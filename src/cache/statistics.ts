import type { Departures } from './departures.ts';
import type { PartitionStats } from './partition.ts';
import type { TagIndex } from './tag-index.ts';
import type { TenantAccount, Tenants, TenantStats } from './tenants.ts';

/** What lies in a partition under one tag. */
export interface TagStats {
  readonly tag: string;
  readonly entries: number;
  readonly usedBytes: number;
  /** Reads of the entries that lie here now. */
  readonly hits: number;
  /** Milliseconds that these reads made unnecessary. */
  readonly savedMs: number;
}

/** Entries by slot, as they are counted. */
export interface CountedEntries {
  /** Slots that hold an entry or held one. */
  readonly length: number;
  extrasOf(slot: number): { readonly account: TenantAccount | undefined } | undefined;
  chargedBytes(slot: number): number;
  costMs(slot: number): number;
  usesOf(slot: number): number;
}

const DEFAULT_LIMIT = 100;

/** What a partition tells of entries that left and values that were not kept. */
export function departureStats(
  departures: Departures,
): Pick<PartitionStats, 'evictions' | 'expirations' | 'refusals' | 'departedBy' | 'refusedBy'> {
  const departedBy = departures.departures();
  const refusedBy = departures.refusals();
  return {
    evictions: departedBy.evicted + departedBy.quota,
    expirations: departedBy.expired,
    refusals: Object.values(refusedBy).reduce((sum, each) => sum + each, 0),
    departedBy,
    refusedBy,
  };
}

/** The tenants that take the most bytes, most first. Walks over every entry. */
export function tenantStats(
  tenants: Tenants,
  table: CountedEntries,
  limit: number = DEFAULT_LIMIT,
): readonly TenantStats[] {
  const live = new Map<TenantAccount, { hits: number; savedMs: number }>();
  for (let slot = 0; slot < table.length; slot++) {
    const account = table.extrasOf(slot)?.account;
    if (account === undefined) continue;
    const sums = live.get(account) ?? { hits: 0, savedMs: 0 };
    sums.hits += table.usesOf(slot);
    sums.savedMs += table.usesOf(slot) * table.costMs(slot);
    live.set(account, sums);
  }
  const largest = [...tenants.all()].toSorted((a, b) => b.usedBytes - a.usedBytes).slice(0, limit);
  return largest.map((account) => {
    const { tenant, entries, usedBytes, quotaBytes, evictions, refusals, departedHits, departedSavedMs } = account;
    const { hits = 0, savedMs = 0 } = live.get(account) ?? {};
    return {
      tenant,
      entries,
      usedBytes,
      quotaBytes,
      hits: departedHits + hits,
      evictions,
      refusals,
      savedMs: departedSavedMs + savedMs,
    };
  });
}

/** The tags with the most entries, most first. Walks over their entries. */
export function tagStats(tags: TagIndex, table: CountedEntries, limit: number = DEFAULT_LIMIT): readonly TagStats[] {
  return tags.largest(limit).map(([tag, slots]) => {
    const stats = { tag, entries: slots.size, usedBytes: 0, hits: 0, savedMs: 0 };
    for (const slot of slots) {
      stats.usedBytes += table.chargedBytes(slot);
      stats.hits += table.usesOf(slot);
      stats.savedMs += table.usesOf(slot) * table.costMs(slot);
    }
    return stats;
  });
}
