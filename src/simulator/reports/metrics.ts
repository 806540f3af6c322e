import { formatBytes } from '../../base/bytes.ts';
import type { BudgetUnit, Simulation, SimulationRow } from '../simulate.ts';

/** A rate that reports show, with a place for each policy and budget. */
export interface Metric {
  readonly title: string;
  readonly of: (row: SimulationRow) => number | undefined;
}

const METRICS: readonly Metric[] = [
  { title: 'hits', of: ({ hitRate }) => hitRate },
  { title: 'bytes', of: ({ byteHitRate }) => byteHitRate },
  { title: 'cost saved', of: ({ costSaved }) => costSaved },
];

/** The rates that a replay knows. */
export function metricsOf({ rows }: Simulation): readonly Metric[] {
  return METRICS.filter(({ of }) => rows.some((row) => of(row) !== undefined));
}

/** The policies of a replay, in the order they were asked for; the bound last. */
export function policiesOf({ rows }: Simulation): readonly string[] {
  return [...new Set(rows.map(({ policy }) => policy))];
}

/** The budgets of a replay, smallest first. */
export function budgetsOf({ rows }: Simulation): readonly number[] {
  return [...new Set(rows.map(({ budget }) => budget))].toSorted((a, b) => a - b);
}

export function rowFor({ rows }: Simulation, policy: string, budget: number): SimulationRow | undefined {
  return rows.find((row) => row.policy === policy && row.budget === budget);
}

/** A budget for people: `5,860`, `1.5 GB`. */
export function budgetText(budget: number, unit: BudgetUnit): string {
  return unit === 'bytes' ? formatBytes(budget) : countText(budget);
}

/** `belady`, or what else the bound is. */
export function policyText(policy: string, { bound }: Simulation): string {
  return policy === 'belady' && bound === 'relaxed' ? 'upper bound' : policy;
}

/** What was replayed, in one line. */
export function summaryOf({ files, format, requests, references, isChained }: Simulation): string {
  const what = isChained
    ? `${countText(requests)} requests for ${countText(references)} blocks`
    : `${countText(requests)} requests`;
  return `${files.join(', ')} (${format}): ${what}`;
}

function countText(count: number): string {
  return count.toLocaleString('en-US');
}
