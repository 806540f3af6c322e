/** `inferkv stats`: what lies in the partitions of a running server. */
import { Command, Option } from 'commander';

import { formatBytes } from '../base/bytes.ts';
import type { PartitionStats } from '../cache/partition.ts';
import type { TagStats } from '../cache/statistics.ts';
import type { TenantStats } from '../cache/tenants.ts';
import type { TierReport } from '../compose-tiers.ts';
import { PARTITION_NAMES } from '../config/partitions.ts';
import { ask, withAskFlags, type AskFlags } from './ask-server.ts';
import { print, printJson, table } from './common.ts';

interface StatsFlags extends AskFlags {
  readonly partition?: string;
  readonly limit: string;
}

interface Answer {
  readonly partitions: Readonly<Record<string, PartitionStats>>;
  readonly tenants?: readonly TenantStats[];
  readonly tags?: readonly TagStats[];
  readonly tiers?: readonly TierReport[];
}

const TIER_HEAD = ['tier', 'breaker', 'records', 'in use', 'hits', 'misses', 'not believed', 'failures', 'written'];

export function statsCommand(): Command {
  return withAskFlags(new Command('stats'))
    .description('asks a running server what its partitions hold, and what tenants and tags have of one')
    .addOption(new Option('--partition <name>', 'tenants and tags of this one').choices([...PARTITION_NAMES]))
    .option('--limit <number>', 'tenants and tags at most, the largest first', '20')
    .action(stats);
}

async function stats({ partition, limit, ...flags }: StatsFlags): Promise<void> {
  const asked = partition === undefined ? '' : `?${new URLSearchParams({ partition, limit }).toString()}`;
  const answer = await ask<Answer>(`/v1/cache/stats${asked}`, flags);
  if (flags.json === true) {
    printJson(answer);
    return;
  }
  const head = ['partition', 'entries', 'in use', 'budget', 'hit rate', 'saved', 'evicted', 'refused'];
  print(table([head, ...Object.values(answer.partitions).map(rowOf)]));
  const { tenants = [], tags = [], tiers = [] } = answer;
  if (tiers.length > 0) print(`\n${table([TIER_HEAD, ...tiers.map(rowOfTier)])}`);
  const rows = [
    ...tenants.map((each) => rowOfPart('tenant', each.tenant, each)),
    ...tags.map((each) => rowOfPart('tag', each.tag, each)),
  ];
  if (rows.length > 0) print(`\n${table([['of', 'name', 'entries', 'in use', 'hits', 'saved'], ...rows])}`);
}

function rowOf(each: PartitionStats): readonly string[] {
  const { name, entries, usedBytes, budgetBytes, hits, misses, savedMs, evictions, refusals } = each;
  const asked = hits + misses;
  const hitRate = asked === 0 ? '-' : `${((100 * hits) / asked).toFixed(1)}%`;
  const bytes = [formatBytes(usedBytes), formatBytes(budgetBytes)];
  return [name, String(entries), ...bytes, hitRate, secondsOf(savedMs), String(evictions), String(refusals)];
}

function rowOfTier(tier: TierReport): readonly string[] {
  const { name, breaker, records, usedBytes, hits, misses, faults, failures, written } = tier;
  const doubted = Object.values(faults).reduce((sum, count) => sum + count, 0);
  const bytes = usedBytes === undefined ? '-' : formatBytes(usedBytes);
  return [name, breaker, String(records ?? '-'), bytes, ...[hits, misses, doubted, failures, written].map(String)];
}

function rowOfPart(
  of: string,
  name: string,
  { entries, usedBytes, hits, savedMs }: Omit<TagStats, 'tag'>,
): readonly string[] {
  return [of, name, String(entries), formatBytes(usedBytes), String(hits), secondsOf(savedMs)];
}

function secondsOf(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
