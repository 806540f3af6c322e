import type { Simulation } from '../simulate.ts';
import { budgetsOf, budgetText, metricsOf, policiesOf, policyText, rowFor } from './metrics.ts';

const PERCENT = 100;

/** Cells for each rate that is known: a line of budgets, then a line a policy, in percent; numbers end under each other. */
export function tablesOf(simulation: Simulation): readonly { readonly title: string; readonly cells: string[][] }[] {
  const budgets = budgetsOf(simulation);
  return metricsOf(simulation).map(({ title, of }) => {
    const heads = budgets.map((budget) => budgetText(budget, simulation.unit));
    const lines = policiesOf(simulation).map((policy) => {
      const cells = budgets.map((budget) => {
        const row = rowFor(simulation, policy, budget);
        const rate = row === undefined ? undefined : of(row);
        return rate === undefined ? '-' : (PERCENT * rate).toFixed(2);
      });
      return [policyText(policy, simulation)].concat(cells);
    });
    return { title, cells: aligned([[`${title}, %`, ...heads], ...lines]) };
  });
}

/** All but the first column as wide as its widest cell, filled from the left. */
function aligned(rows: readonly (readonly string[])[]): string[][] {
  const widths: number[] = [];
  for (const row of rows) for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, cell.length);
  return rows.map((row) => row.map((cell, at) => (at === 0 ? cell : cell.padStart(widths[at] ?? 0))));
}
