/** The first story: a model kept in memory, and its results. */
import { availableParallelism } from 'node:os';
import { basename, extname, resolve } from 'node:path';

import { InferkvError } from '../base/errors.ts';
import { createRandom, type Random } from '../base/random.ts';
import { byteLengthOf, elementCount, numericView, type Tensor, type Tensors } from '../base/tensor.ts';
import { createInferenceCache } from '../compose.ts';
import { demoRepository, readImage, readLabels, syntheticImage, topClasses, type RankedClass } from '../demo/index.ts';
import type { SessionMetadata, TensorSpec } from '../engines/engine.ts';
import { loadOrt, ortVersion } from '../engines/onnx/peer.ts';

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

/** What is measured: a model in a repository, and an input for it. */
interface Subject {
  readonly repository: string;
  readonly name: string;
  /** Whether the weights are our own seeded ones. */
  readonly seeded: boolean;
  readonly inputs: Tensors;
}

/** Milliseconds from having the input to having the answer; medians where there is more than one. */
interface Timings {
  readonly loadEveryTimeMs: number;
  readonly firstRunMs: number;
  readonly residentMs: number;
  readonly cachedMs: number;
}

const COLD_ROUNDS = 3;
const RESIDENT_ROUNDS = 15;
const CACHED_ROUNDS = 101;
const IMAGE_SIDE = 224;

/** Measures the story and gives it as an object for programs and a text for people. */
export async function resnetStory(flags: ResnetFlags): Promise<Story> {
  const subject = await subjectOf(flags);
  const { timings, outputs } = await measure(subject);
  const shown = flags.model !== undefined || flags.image !== undefined;
  const classes = shown ? topClasses(Object.values(outputs)[0] as Tensor, await labelsOf(flags)) : [];
  return {
    figures: { model: subject.name, seeded: subject.seeded, ...timings, classes },
    text: reportOf(subject, timings, classes),
  };
}

async function labelsOf({ labels }: ResnetFlags): Promise<readonly string[]> {
  return labels === undefined ? [] : readLabels(labels);
}

async function subjectOf({ model, image }: ResnetFlags): Promise<Subject> {
  const seeded = model === undefined;
  const repository = seeded ? await demoRepository({ onWrite: tellWriting }) : resolve(model);
  const name = seeded ? 'resnet50' : basename(model, extname(model));
  if (seeded && image === undefined) return { repository, name, seeded, inputs: { input: syntheticImage() } };
  await using cache = createInferenceCache({ repository });
  const metadata = await cache.model(name).metadata();
  return { repository, name, seeded, inputs: await inputsOf(metadata, image) };
}

function tellWriting(path: string): void {
  if (process.stderr.isTTY) process.stderr.write(`Writing ResNet-50 with seeded weights to ${path}\n`);
}

async function measure({ repository, name, inputs }: Subject): Promise<{ timings: Timings; outputs: Tensors }> {
  await using cache = createInferenceCache({ repository });
  const model = cache.model(name);
  const { path } = await model.status();
  const loadEveryTimeMs = await medianMs(COLD_ROUNDS, () => loadAndRun(path, inputs));
  const firstRunMs = await medianMs(1, () => model.run(inputs));
  const residentMs = await medianMs(RESIDENT_ROUNDS, () => model.run(inputs, { cache: 'bypass' }));
  const cachedMs = await medianMs(CACHED_ROUNDS, () => model.run(inputs));
  const { outputs } = await model.run(inputs);
  return { timings: { loadEveryTimeMs, firstRunMs, residentMs, cachedMs }, outputs };
}

/** What a program does that keeps nothing: onnxruntime-node itself, in this thread, with its own defaults. */
async function loadAndRun(path: string, inputs: Tensors): Promise<void> {
  const ort = await loadOrt();
  const session = await ort.InferenceSession.create(path);
  const feeds = Object.entries(inputs).map(
    ([name, { type, data, shape }]) => [name, new ort.Tensor(type, data as Float32Array, shape)] as const,
  );
  await session.run(Object.fromEntries(feeds));
  await session.release();
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

/** The image where a model takes one, and seeded values for whatever else it takes. */
async function inputsOf({ inputs }: SessionMetadata, image: string | undefined): Promise<Tensors> {
  const random = createRandom(1);
  const imageSpec = inputs.find((spec) => imageLayout(spec) !== undefined);
  if (image !== undefined && imageSpec === undefined) {
    throw new InferkvError(
      'ERR_INFERKV_INPUT_INVALID',
      'The model takes no image: no input is float32 of the shape [N, 3, H, W] or [N, H, W, 3]. Leave --image out.',
    );
  }
  const made = await Promise.all(
    inputs.map(async (spec): Promise<readonly [string, Tensor]> => {
      const asImage = image !== undefined && spec === imageSpec;
      return [spec.name, asImage ? await imageFor(spec, image) : seededFor(spec, random)];
    }),
  );
  return Object.fromEntries(made);
}

function imageLayout({ type, shape }: TensorSpec): 'nchw' | 'nhwc' | undefined {
  if (type !== 'float32' || shape.length !== 4) return undefined;
  if (shape[1] === 3) return 'nchw';
  return shape[3] === 3 ? 'nhwc' : undefined;
}

function sideOf(size: number | string | undefined): number {
  return typeof size === 'number' ? size : IMAGE_SIDE;
}

async function imageFor(spec: TensorSpec, path: string): Promise<Tensor> {
  const layout = imageLayout(spec) ?? 'nchw';
  const [height, width] = layout === 'nchw' ? spec.shape.slice(2, 4) : spec.shape.slice(1, 3);
  return readImage(path, { height: sideOf(height), width: sideOf(width), layout });
}

function seededFor(spec: TensorSpec, random: Random): Tensor {
  const isImage = imageLayout(spec) !== undefined;
  const shape = spec.shape.map((size, axis) =>
    typeof size === 'number' ? size : isImage && axis > 0 ? IMAGE_SIDE : 1,
  );
  if (spec.type === 'string')
    return { type: 'string', shape, data: Array.from({ length: elementCount(shape) }, () => '') };
  const data = numericView(spec.type, shape, new ArrayBuffer(byteLengthOf(spec.type, shape)));
  const isFloat = data instanceof Float32Array || data instanceof Float64Array || data instanceof Float16Array;
  if (isFloat) for (let i = 0; i < data.length; i++) data[i] = random.next() * 2 - 1;
  return { type: spec.type, shape, data };
}

function reportOf({ name, seeded, inputs }: Subject, timings: Timings, classes: readonly RankedClass[]): string {
  const shapes = Object.entries(inputs).map(([input, { type, shape }]) => `${input} ${type} ${shape.join('x')}`);
  const rows: readonly (readonly [string, number])[] = [
    ['load every time', timings.loadEveryTimeMs],
    ['first run', timings.firstRunMs],
    ['resident', timings.residentMs],
    ['cached result', timings.cachedMs],
  ];
  const table = rows.map(([label, ms]) => {
    const ratio = (timings.loadEveryTimeMs / ms).toPrecision(3);
    return `  ${label.padEnd(18)}${ms.toFixed(2).padStart(10)} ms${Number(ratio).toString().padStart(9)} x`;
  });
  const ranked = classes.map(({ label, probability }) => `  ${(100 * probability).toFixed(1).padStart(5)} %  ${label}`);
  return [
    `${name}: ${shapes.join(', ')}; onnxruntime-node ${ortVersion()}, ${availableParallelism()} cores`,
    '',
    ...table,
    '',
    ...(ranked.length > 0 ? [...ranked, ''] : []),
    ...(seeded
      ? [
          'The weights are seeded, not trained: the times are real, the answers mean nothing.',
          'Your own: npm run demo -- resnet --model my.onnx --image cat.jpg --labels labels.txt',
        ]
      : []),
    '',
  ].join('\n');
}
