import type { Simulation } from '../simulate.ts';
import { CHART_STYLE, chartElement, escaped } from './chart.ts';
import { metricsOf, summaryOf } from './metrics.ts';
import { tablesOf } from './table.ts';

const PAGE_STYLE = `${CHART_STYLE}
  body { margin: 0 auto; padding: 24px; max-width: 940px; background: #ffffff; color: #1c1f24;
    font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
  svg { width: 100%; height: auto; } h1 { font-size: 24px; } h2 { font-size: 17px; overflow-wrap: anywhere; }
  .scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 8px 0 28px; }
  th, td { padding: 3px 14px 3px 0; text-align: right; border-bottom: 1px solid #e3e6ea; white-space: nowrap; }
  th:first-child, td:first-child { text-align: left; } p { color: #5c6370; }
  @media (prefers-color-scheme: dark) { body { background: #14171c; color: #e8eaed; } th, td { border-color: #2d333c; }
    p { color: #a5adba; } }`;

/** A page with charts and tables that needs nothing but itself. */
export function htmlOf(simulations: readonly Simulation[]): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>inferkv simulate</title>
<style>${PAGE_STYLE}
</style>
</head>
<body>
<h1>Hit rates over the budget</h1>
${simulations.map(sectionOf).join('\n')}
</body>
</html>
`;
}

function sectionOf(simulation: Simulation): string {
  const tables = tablesOf(simulation);
  const parts = metricsOf(simulation).map(
    (metric, at) => `${chartElement(simulation, metric)}\n${tableElement(tables[at]?.cells ?? [])}`,
  );
  return `<section>\n<h2>${escaped(summaryOf(simulation))}</h2>\n<p>${escaped(boundText(simulation))}</p>\n${parts.join('\n')}\n</section>`;
}

/** What the bound is, for whoever reads the report. */
export function boundText({ bound, boundNote }: Simulation): string {
  if (bound === 'exact')
    return 'belady: the optimum of a cache that knows the future (of chains, each block by itself)';
  if (bound === 'relaxed') return 'upper bound: no policy exceeds it, and the best may stay below it (PFOO-U)';
  return boundNote ?? 'without a bound';
}

function tableElement(cells: readonly (readonly string[])[]): string {
  const [heads = [], ...rows] = cells;
  const lines = [tableLine('th', heads), ...rows.map((row) => tableLine('td', row))];
  return `<div class="scroll"><table>\n${lines.join('\n')}\n</table></div>`;
}

function tableLine(tag: 'th' | 'td', row: readonly string[]): string {
  return `<tr>${row.map((cell) => `<${tag}>${escaped(cell.trim())}</${tag}>`).join('')}</tr>`;
}
