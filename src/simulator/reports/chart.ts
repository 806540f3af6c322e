import type { Simulation } from '../simulate.ts';
import { budgetsOf, budgetText, policiesOf, policyText, rowFor, summaryOf, type Metric } from './metrics.ts';

const WIDTH = 880;
const CHART_HEIGHT = 440;
const LEFT = 64;
const RIGHT = 170;
const TOP = 56;
const BOTTOM = 64;
const PLOT_WIDTH = WIDTH - LEFT - RIGHT;
const PLOT_HEIGHT = CHART_HEIGHT - TOP - BOTTOM;
/** Room that the text below a tick takes. */
const TICK_ROOM = 62;
const LEGEND_LINE = 22;
const GRID_LINES = 5;
/** Shapes and dashes tell lines apart where colours do not; eight colours, then they come again. */
const COLOURS = 8;
const SHAPES = ['circle', 'square', 'triangle', 'diamond'] as const;
const DASHES = ['', '7 3', '2 3'];

/** Colours and type of the charts, on light and on dark ground. */
export const CHART_STYLE: string = `
  :root { color-scheme: light dark; }
  .chart { --ground: #ffffff; --ink: #1c1f24; --faint: #5c6370; --grid: #e3e6ea;
    --c0: #0b62c4; --c1: #c2410c; --c2: #0f766e; --c3: #9333ea; --c4: #b3186d; --c5: #5b6b00; --c6: #a16207; --c7: #334155;
    font-family: system-ui, -apple-system, "Segoe UI", sans-serif; }
  @media (prefers-color-scheme: dark) { .chart { --ground: #14171c; --ink: #e8eaed; --faint: #a5adba; --grid: #2d333c;
    --c0: #6cb0ff; --c1: #ff9a66; --c2: #4fd1c0; --c3: #c99bff; --c4: #ff85bd; --c5: #c8d84a; --c6: #f0c04f; --c7: #b8c4d6; } }
  .ground { fill: var(--ground); } .title { fill: var(--ink); font-size: 16px; font-weight: 600; }
  .note, .tick, .axis { fill: var(--faint); font-size: 12px; } .axis { font-size: 13px; }
  .legend { fill: var(--ink); font-size: 13px; } .grid { stroke: var(--grid); } .frame { stroke: var(--faint); fill: none; }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round; } .bound { stroke: var(--faint); stroke-width: 2; }
  .mark { stroke: var(--ground); stroke-width: 1; }
${Array.from({ length: COLOURS }, (_, at) => `  .s${at} { stroke: var(--c${at}); } .f${at} { fill: var(--c${at}); }`).join('\n')}
  .fb { fill: var(--faint); }`;

interface Scales {
  readonly x: (budget: number) => number;
  readonly y: (rate: number) => number;
  readonly top: number;
}

/** The inside of a chart of one rate over the budgets, a line a policy: for a page or a file of its own. */
function chartOf(simulation: Simulation, metric: Metric): string {
  const budgets = budgetsOf(simulation);
  const rates = simulation.rows.map((row) => metric.of(row) ?? 0);
  const top = niceTop(Math.max(...rates));
  const scales: Scales = {
    x: xScale(budgets),
    y: (rate) => TOP + PLOT_HEIGHT * (1 - rate / top),
    top,
  };
  return [
    `<rect class="ground" width="${WIDTH}" height="${CHART_HEIGHT}"/>`,
    `<text class="title" x="${LEFT}" y="24">${escaped(titleOf(metric))}</text>`,
    `<text class="note" x="${LEFT}" y="43">${escaped(summaryOf(simulation))}</text>`,
    ...gridOf(scales, metric),
    ...ticksOf(budgets, simulation, scales),
    ...linesOf(simulation, metric, scales),
  ].join('\n');
}

/** A chart as an element of a page. */
export function chartElement(simulation: Simulation, metric: Metric): string {
  const label = `${titleOf(metric)} over the budget: ${summaryOf(simulation)}`;
  return `<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${CHART_HEIGHT}" role="img" aria-label="${escaped(label)}">\n${chartOf(simulation, metric)}\n</svg>`;
}

/** Charts below each other, as one image. */
export function svgOf(charts: readonly { readonly simulation: Simulation; readonly metric: Metric }[]): string {
  const height = CHART_HEIGHT * charts.length;
  const inside = charts.map(
    ({ simulation, metric }, at) =>
      `<g transform="translate(0 ${at * CHART_HEIGHT})">\n${chartOf(simulation, metric)}\n</g>`,
  );
  return `<svg class="chart" xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}">\n<style>${CHART_STYLE}\n</style>\n${inside.join('\n')}\n</svg>\n`;
}

/** Text as it may stand in HTML and SVG. */
export function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

function titleOf({ title }: Metric): string {
  return title === 'hits' ? 'Hit rate' : title === 'bytes' ? 'Hit rate by bytes' : 'Cost saved';
}

/** Budgets differ by factors, so equal factors are equally far apart. */
function xScale(budgets: readonly number[]): (budget: number) => number {
  const first = Math.log(budgets[0] ?? 1);
  const span = Math.log(budgets.at(-1) ?? 1) - first;
  return (budget) =>
    span === 0 ? LEFT + PLOT_WIDTH / 2 : LEFT + 12 + ((PLOT_WIDTH - 24) * (Math.log(budget) - first)) / span;
}

/** The next of 5, 10, 20, 25, 50, 100 percent and their tenths that is not below the largest rate. */
function niceTop(largest: number): number {
  return [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.4, 0.5, 0.75, 1].find((top) => largest <= top) ?? 1;
}

function gridOf({ y, top }: Scales, metric: Metric): readonly string[] {
  const lines = Array.from({ length: GRID_LINES + 1 }, (_, at) => {
    const rate = (top * at) / GRID_LINES;
    const digits = top < 0.05 ? 1 : 0;
    const height = y(rate).toFixed(1);
    return `<line class="grid" x1="${LEFT}" x2="${LEFT + PLOT_WIDTH}" y1="${height}" y2="${height}"/><text class="tick" text-anchor="end" x="${LEFT - 8}" y="${(y(rate) + 4).toFixed(1)}">${(100 * rate).toFixed(digits)} %</text>`;
  });
  const axis =
    metric.title === 'hits' ? 'of what was asked for' : metric.title === 'bytes' ? 'of the bytes' : 'of the time';
  const middle = TOP + PLOT_HEIGHT / 2;
  return [
    ...lines,
    `<text class="axis" text-anchor="middle" transform="translate(16 ${middle}) rotate(-90)">${axis}</text>`,
    `<line class="frame" x1="${LEFT}" x2="${LEFT + PLOT_WIDTH}" y1="${TOP + PLOT_HEIGHT}" y2="${TOP + PLOT_HEIGHT}"/>`,
  ];
}

function ticksOf(budgets: readonly number[], { unit, isChained }: Simulation, { x }: Scales): readonly string[] {
  const bottom = TOP + PLOT_HEIGHT;
  const shown: string[] = [];
  let free = Number.NEGATIVE_INFINITY;
  for (const budget of budgets) {
    const at = x(budget);
    const mark = `<line class="frame" x1="${at.toFixed(1)}" x2="${at.toFixed(1)}" y1="${bottom}" y2="${bottom + 5}"/>`;
    const text = `<text class="tick" text-anchor="middle" x="${at.toFixed(1)}" y="${bottom + 20}">${budgetText(budget, unit)}</text>`;
    shown.push(at < free ? mark : mark + text);
    if (at >= free) free = at + TICK_ROOM;
  }
  const axis = unit === 'bytes' ? 'budget' : isChained ? 'budget, blocks' : 'budget, entries';
  return [
    ...shown,
    `<text class="axis" text-anchor="middle" x="${LEFT + PLOT_WIDTH / 2}" y="${bottom + 44}">${axis}</text>`,
  ];
}

function linesOf(simulation: Simulation, metric: Metric, scales: Scales): readonly string[] {
  const budgets = budgetsOf(simulation);
  const last = budgets.at(-1) ?? 0;
  const rateOf = (policy: string, budget: number): number | undefined => {
    const row = rowFor(simulation, policy, budget);
    return row === undefined ? undefined : metric.of(row);
  };
  const policies = policiesOf(simulation);
  // The legend follows the lines' right ends from top to bottom.
  const ranked = policies.toSorted((a, b) => (rateOf(b, last) ?? 0) - (rateOf(a, last) ?? 0));
  return policies.map((policy, at) => {
    const points = budgets.flatMap((budget) => {
      const rate = rateOf(policy, budget);
      return rate === undefined ? [] : [{ budget, rate, x: scales.x(budget), y: scales.y(rate) }];
    });
    const isBound = policy === 'belady';
    const stroke = isBound ? 'bound' : `s${at % COLOURS}`;
    const dash = isBound ? '1 4' : (DASHES[Math.floor(at / COLOURS) % DASHES.length] ?? '');
    const style = dash === '' ? '' : ` stroke-dasharray="${dash}"`;
    const fill = isBound ? 'fb' : `f${at % COLOURS}`;
    const shape = SHAPES[at % SHAPES.length] ?? 'circle';
    const name = policyText(policy, simulation);
    const marks = points.map(({ budget, rate, x, y }) => {
      const tip = `${name}, ${budgetText(budget, simulation.unit)}: ${(100 * rate).toFixed(2)} %`;
      return markOf(shape, fill, x, y, tip);
    });
    const legendX = LEFT + PLOT_WIDTH + 22;
    const legendY = TOP + 10 + LEGEND_LINE * ranked.indexOf(policy);
    return [
      `<polyline class="line ${stroke}"${style} points="${points.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ')}"/>`,
      ...marks,
      `<line class="line ${stroke}"${style} x1="${legendX}" x2="${legendX + 26}" y1="${legendY}" y2="${legendY}"/>`,
      markOf(shape, fill, legendX + 13, legendY, name),
      `<text class="legend" x="${legendX + 34}" y="${legendY + 4}">${escaped(name)}</text>`,
    ].join('');
  });
}

function markOf(shape: (typeof SHAPES)[number], fill: string, x: number, y: number, tip: string): string {
  const title = `<title>${escaped(tip)}</title>`;
  const at = (dx: number, dy: number): string => `${(x + dx).toFixed(1)},${(y + dy).toFixed(1)}`;
  if (shape === 'circle')
    return `<circle class="mark ${fill}" cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="4.5">${title}</circle>`;
  const corners = {
    square: [at(-4, -4), at(4, -4), at(4, 4), at(-4, 4)],
    triangle: [at(0, -5), at(5, 4), at(-5, 4)],
    diamond: [at(0, -5.5), at(5.5, 0), at(0, 5.5), at(-5.5, 0)],
  }[shape];
  return `<polygon class="mark ${fill}" points="${corners.join(' ')}">${title}</polygon>`;
}
