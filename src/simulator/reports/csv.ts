import type { Simulation } from '../simulate.ts';

const COLUMNS = ['trace', 'unit', 'policy', 'budget', 'references', 'hit_rate', 'byte_hit_rate', 'cost_saved'] as const;
const DIGITS = 6;

/** One line for each policy with each budget; rates from 0 to 1, empty where the trace does not tell. */
export function csvOf(simulations: readonly Simulation[]): string {
  const lines = simulations.flatMap(({ files, unit, references, bound, rows }) =>
    rows.map(({ policy, budget, hitRate, byteHitRate, costSaved }) => {
      const name = policy === 'belady' && bound === 'relaxed' ? 'upper-bound' : policy;
      const rates = [hitRate, byteHitRate, costSaved].map((rate) => rate?.toFixed(DIGITS) ?? '');
      return [files.join(' '), unit, name, String(budget), String(references), ...rates];
    }),
  );
  return [COLUMNS, ...lines].map((cells) => `${cells.map(quoted).join(',')}\r\n`).join('');
}

function quoted(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}
