/** The first story: a model kept in memory, and its results. */
import { availableParallelism } from 'node:os';

import { InferkvError } from '../base/errors.ts';
import type { Tensor, Tensors } from '../base/tensor.ts';
import { createInferenceCache } from '../compose.ts';
import { readLabels, topClasses, type RankedClass } from '../demo/index.ts';
import { contendersFor, type Contender } from './demo-contenders.ts';

/** What the user gives of his own. */
export interface ResnetFlags {
  readonly model?: string;
  readonly image?: string;
  readonly labels?: string;
}

/** A story that was told. */
export interface Story {
  readonly figures: Readonly<Record<string, unknown>>;
  readonly text: string;
}

/** Milliseconds from having the input to having the answer; medians where there is more than one. */
interface Timings {
  readonly loadEveryTimeMs: number;
  readonly firstRunMs: number;
  readonly residentMs: number;
  readonly cachedMs: number;
}

interface Measured {
  readonly contender: Contender;
  readonly timings: Timings;
  readonly outputs: Tensors;
}

const COLD_ROUNDS = 3;
const RESIDENT_ROUNDS = 15;
const CACHED_ROUNDS = 101;

const ROWS: readonly (readonly [label: string, timing: keyof Timings])[] = [
  ['load every time', 'loadEveryTimeMs'],
  ['first run', 'firstRunMs'],
  ['resident', 'residentMs'],
  ['cached result', 'cachedMs'],
];

/** Measures the story and gives it as an object for programs and a text for people. */
export async function resnetStory(flags: ResnetFlags): Promise<Story> {
  const { contenders, absent } = await contendersFor(flags.model, flags.image);
  const measured: Measured[] = [];
  for (const contender of contenders) measured.push(await measure(contender));
  const [first] = measured;
  if (first === undefined) throw new InferkvError('ERR_INFERKV_ENGINE_UNKNOWN', 'There is no engine to run it.');
  const seeded = flags.model === undefined;
  const shown = !seeded || flags.image !== undefined;
  const labels = flags.labels === undefined ? [] : await readLabels(flags.labels);
  const classes = shown ? topClasses(Object.values(first.outputs)[0] as Tensor, labels) : [];
  const engines = Object.fromEntries(measured.map(({ contender, timings }) => [contender.engine, timings]));
  return {
    figures: { model: first.contender.name, seeded, engines, ...(absent !== undefined && { absent }), classes },
    text: reportOf(measured, seeded, absent, classes),
  };
}

async function measure(contender: Contender): Promise<Measured> {
  const { repository, name, inputs } = contender;
  await using cache = createInferenceCache({ repository });
  const model = cache.model(name);
  const { path } = await model.status();
  const loadEveryTimeMs = await medianMs(COLD_ROUNDS, () => contender.loadAndRun(path));
  const firstRunMs = await medianMs(1, () => model.run(inputs));
  const residentMs = await medianMs(RESIDENT_ROUNDS, () => model.run(inputs, { cache: 'bypass' }));
  const cachedMs = await medianMs(CACHED_ROUNDS, () => model.run(inputs));
  const { outputs } = await model.run(inputs);
  return { contender, timings: { loadEveryTimeMs, firstRunMs, residentMs, cachedMs }, outputs };
}

async function medianMs(rounds: number, work: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const start = performance.now();
    await work();
    times.push(performance.now() - start);
  }
  return times.toSorted((a, b) => a - b)[rounds >> 1] ?? 0;
}

const LABEL_WIDTH = 18;
const MS_WIDTH = 10;
const RATIO_WIDTH = 9;
const COLUMN_WIDTH = MS_WIDTH + RATIO_WIDTH + ' ms x'.length;

function reportOf(
  measured: readonly Measured[],
  seeded: boolean,
  absent: string | undefined,
  classes: readonly RankedClass[],
): string {
  const head = measured.map(({ contender }) => contender.runtime.padStart(COLUMN_WIDTH)).join('');
  const table = ROWS.map(([label, timing]) => {
    const cells = measured.map(({ timings }) => {
      const ratio = Number((timings.loadEveryTimeMs / timings[timing]).toPrecision(3)).toString();
      return `${timings[timing].toFixed(2).padStart(MS_WIDTH)} ms${ratio.padStart(RATIO_WIDTH)} x`;
    });
    return `  ${label.padEnd(LABEL_WIDTH)}${cells.join('')}`;
  });
  const ranked = classes.map(({ label, probability }) => `  ${(100 * probability).toFixed(1).padStart(5)} %  ${label}`);
  return [
    `${measured[0]?.contender.name}: ${shapesOf(measured[0]?.contender.inputs ?? {})}; ${availableParallelism()} cores`,
    '',
    `  ${''.padEnd(LABEL_WIDTH)}${head}`,
    ...table,
    '',
    ...(ranked.length > 0 ? [...ranked, ''] : []),
    ...(absent === undefined ? [] : [`TorchScript is left out. ${absent}`, '']),
    ...(seeded
      ? [
          'The weights are seeded, not trained: the times are real, the answers mean nothing.',
          'Your own: npm run demo -- resnet --model my.onnx --image cat.jpg --labels labels.txt (or my.pt)',
        ]
      : []),
    '',
  ].join('\n');
}

function shapesOf(inputs: Tensors): string {
  return Object.entries(inputs)
    .map(([input, { type, shape }]) => `${input} ${type} ${shape.join('x')}`)
    .join(', ');
}
