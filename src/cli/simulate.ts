/** `inferkv simulate`: what policies and sizes would have done with a trace. */
import { writeFile } from 'node:fs/promises';

import { Command, Option } from 'commander';

import { parseBytes } from '../base/bytes.ts';
import { systemClock } from '../base/clock.ts';
import { InferkvError, messageOf } from '../base/errors.ts';
import { admissionNames, policyNames } from '../policies/registry.ts';
import {
  boundText,
  csvOf,
  formatNamed,
  htmlOf,
  metricsOf,
  simulate,
  summaryOf,
  svgOf,
  tablesOf,
  traceFormats,
  type BudgetUnit,
  type Simulation,
} from '../simulator/index.ts';
import { print, printJson, table, withProgress } from './common.ts';

interface SimulateFlags {
  readonly policies: string;
  readonly sizes?: string;
  readonly blocks?: string;
  readonly entryBytes?: string;
  readonly format: string;
  readonly partition?: string;
  readonly join?: true;
  readonly bound: boolean;
  readonly seed: string;
  readonly csv?: string;
  readonly svg?: string;
  readonly html?: string;
  readonly json?: true;
}

const EXAMPLES = `
Policies:    ${policyNames.join(', ')}
Admissions:  ${admissionNames.join(', ')}; "lru+tinylfu" is lru behind tinylfu
Formats:
${traceFormats.map(({ name, summary }) => `  ${name.padEnd(12)} ${summary}`).join('\n')}
Files that end in .gz, .zst and .xz are decompressed (.xz by the program xz).

  inferkv simulate conversation_trace.jsonl --blocks 2000,10000
  inferkv simulate requests.csv.gz --sizes 1GB,2GB,4GB --policies lru,sieve,gdsf --html plot.html
  inferkv simulate trace.1 trace.2 --join --partition results --sizes 512MB

docs/simulator.md explains the figures.`;

export function simulateCommand(): Command {
  return new Command('simulate')
    .description('replays traces with the shipped policies: hit rates over sizes, beside what is possible at all')
    .argument('<trace...>', 'files, each a trace of its own')
    .option('--policies <names>', 'policies to compare, with commas; "all" for every one', 'all')
    .option('--sizes <sizes>', 'budgets in bytes, with commas: 512MB,1GB,2GiB')
    .option('--blocks <numbers>', 'budgets in entries (of a chain: blocks), with commas: 2000,10000')
    .option('--entry-bytes <size>', 'what an entry takes where the trace does not tell')
    .addOption(
      new Option('--format <name>', 'the format of the traces')
        .choices(['auto', ...traceFormats.map(({ name }) => name)])
        .default('auto'),
    )
    .option('--partition <name>', 'only what went to this partition, in traces recorded by inferkv')
    .option('--join', 'the files are one trace, in the order given')
    .option('--no-bound', 'leave out the bound, which needs the whole trace in memory')
    .option('--seed <number>', 'for policies that draw lots', '1')
    .option('--csv <file>', 'write the figures as CSV')
    .option('--svg <file>', 'write a plot of the hit rates over the sizes')
    .option('--html <file>', 'write a page with plots and figures')
    .option('--json', 'print JSON and nothing else')
    .addHelpText('after', EXAMPLES)
    .action(run);
}

async function run(paths: readonly string[], flags: SimulateFlags): Promise<void> {
  const { unit, budgets } = budgetsOf(flags);
  const policies = policiesOf(flags.policies);
  const seed = wholeNumber('--seed', flags.seed, 0);
  const format = flags.format === 'auto' ? undefined : formatNamed(flags.format);
  const entryBytes = flags.entryBytes === undefined ? undefined : bytesOf('--entry-bytes', flags.entryBytes);
  const traces = flags.join === true ? [paths] : paths.map((path) => [path]);
  const simulations: Simulation[] = [];
  for (const files of traces) {
    const options = {
      files,
      format,
      partition: flags.partition,
      policies,
      budgets,
      unit,
      entryBytes,
      bound: flags.bound,
      seed,
    };
    simulations.push(
      await withProgress(`Replaying ${files.join(', ')}`, () => simulate({ ...options, clock: systemClock })),
    );
  }
  await writeReports(simulations, flags);
  if (flags.json === true) printJson({ traces: simulations });
  else for (const simulation of simulations) show(simulation);
}

function show(simulation: Simulation): void {
  print(summaryOf(simulation));
  for (const { cells } of tablesOf(simulation)) print(`\n${table(cells)}`);
  const replays = simulation.rows.filter(({ policy }) => policy !== 'belady').length;
  const perSecond = (1000 * replays * simulation.references) / Math.max(1, simulation.elapsedMs);
  const seconds = (simulation.elapsedMs / 1000).toFixed(1);
  print(`\n${boundText(simulation)}`);
  print(`Replayed ${replays} times in ${seconds} s: ${(perSecond / 1e6).toFixed(1)} million references a second.\n`);
}

async function writeReports(simulations: readonly Simulation[], flags: SimulateFlags): Promise<void> {
  const charts = simulations.flatMap((simulation) => metricsOf(simulation).map((metric) => ({ simulation, metric })));
  await write(flags.csv, () => csvOf(simulations));
  await write(flags.svg, () => svgOf(charts));
  await write(flags.html, () => htmlOf(simulations));
}

async function write(path: string | undefined, text: () => string): Promise<void> {
  if (path === undefined) return;
  try {
    await writeFile(path, text());
  } catch (error) {
    throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `${path} cannot be written: ${messageOf(error)}`, {
      cause: error,
      key: path,
    });
  }
}

function budgetsOf({ sizes, blocks }: SimulateFlags): {
  readonly unit: BudgetUnit;
  readonly budgets: readonly number[];
} {
  if ((sizes === undefined) === (blocks === undefined)) {
    throw new InferkvError(
      'ERR_INFERKV_CONFIG_INVALID',
      'Say how large the cache is to be: either --sizes 1GB,2GB (bytes) or --blocks 2000,10000 (entries).',
    );
  }
  const texts = (sizes ?? blocks ?? '').split(',');
  const read = (text: string): number =>
    sizes === undefined ? wholeNumber('--blocks', text, 1) : bytesOf('--sizes', text);
  const budgets = [...new Set(texts.map(read))].toSorted((a, b) => a - b);
  return { unit: sizes === undefined ? 'blocks' : 'bytes', budgets };
}

function policiesOf(text: string): readonly string[] {
  const names = text.split(',').map((name) => name.trim());
  return [...new Set(names.flatMap((name): readonly string[] => (name === 'all' ? policyNames : [name])))];
}

function wholeNumber(flag: string, text: string, least: number): number {
  const number = /^\s*\d+\s*$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(number) && number >= least) return number;
  throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `${flag}: "${text}" is no whole number from ${least} on.`);
}

function bytesOf(flag: string, text: string): number {
  // A share of the memory of this machine would say nothing about a trace.
  const bytes = text.includes('%') ? undefined : parseBytes(text, 0);
  if (bytes !== undefined) return bytes;
  throw new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    `${flag}: "${text}" is no size above zero; write it as 512MB or 2GiB.`,
  );
}
