export { formatNamed, traceFormats } from './formats.ts';
export { csvOf } from './reports/csv.ts';
export { svgOf } from './reports/chart.ts';
export { boundText, htmlOf } from './reports/html.ts';
export { metricsOf, summaryOf } from './reports/metrics.ts';
export { tablesOf } from './reports/table.ts';
export { simulate, type BudgetUnit, type Simulation } from './simulate.ts';
export { TraceRecorder } from './trace-recorder.ts';
