/** Who runs ResNet-50 in the first story: each engine, and what a program does with it that keeps nothing. */
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, extname, resolve } from 'node:path';

import { InferkvError, isInferkvError } from '../base/errors.ts';
import { createRandom, type Random } from '../base/random.ts';
import { byteLengthOf, elementCount, numericView, type Tensor, type Tensors } from '../base/tensor.ts';
import { createInferenceCache } from '../compose.ts';
import { demoRepository, readImage, syntheticImage, torchscriptRepository } from '../demo/index.ts';
import type { SessionMetadata, TensorSpec } from '../engines/engine.ts';
import { loadOrt, ortVersion } from '../engines/onnx/peer.ts';
import { builtAddon, loadAddon } from '../engines/torchscript/addon.ts';
import { checkTorchOptions } from '../engines/torchscript/options.ts';
import { TorchRunner } from '../engines/torchscript/runner.ts';

/** A model in one engine, and an input for it. */
export interface Contender {
  readonly engine: 'onnx' | 'torchscript';
  /** What runs it, with its version. */
  readonly runtime: string;
  readonly repository: string;
  readonly name: string;
  readonly inputs: Tensors;
  /** Loads the model, runs it and lets it go, by the runtime itself, in this thread. */
  loadAndRun(path: string): Promise<unknown>;
}

/** The contenders there are, and why one is missing. */
export interface Contenders {
  readonly contenders: readonly Contender[];
  readonly absent: string | undefined;
}

const IMAGE_SIDE = 224;

/** The user's own model, or ResNet-50 with seeded weights in both engines as far as they are set up here. */
export async function contendersFor(model: string | undefined, image: string | undefined): Promise<Contenders> {
  if (model !== undefined) {
    const engine = extname(model) === '.pt' ? 'torchscript' : 'onnx';
    const name = basename(model, extname(model));
    return { contenders: [await contender(engine, resolve(model), name, image)], absent: undefined };
  }
  const onnx = await contender('onnx', await demoRepository({ onWrite: tellWriting }), 'resnet50', image);
  try {
    void builtAddon();
    const repository = await torchscriptRepository({ onWrite: tellWriting });
    return { contenders: [await contender('torchscript', repository, 'resnet50', image), onnx], absent: undefined };
  } catch (error) {
    if (!isInferkvError(error, 'ERR_INFERKV_PEER_MISSING')) throw error;
    return { contenders: [onnx], absent: error.message };
  }
}

function tellWriting(path: string): void {
  if (process.stderr.isTTY) process.stderr.write(`Writing ResNet-50 with seeded weights to ${path}\n`);
}

async function contender(
  engine: Contender['engine'],
  repository: string,
  name: string,
  image: string | undefined,
): Promise<Contender> {
  await using cache = createInferenceCache({ repository });
  const inputs = await inputsOf(await cache.model(name).metadata(), image);
  const common = { engine, repository, name, inputs };
  if (engine === 'onnx') {
    return { ...common, runtime: `onnxruntime-node ${ortVersion()}`, loadAndRun: (path) => runOnnx(path, inputs) };
  }
  const runtime = `libtorch ${builtAddon().torchVersion}`;
  return { ...common, runtime, loadAndRun: (path) => runTorch(path, inputs) };
}

async function runOnnx(path: string, inputs: Tensors): Promise<void> {
  const ort = await loadOrt();
  const session = await ort.InferenceSession.create(path);
  const feeds = Object.entries(inputs).map(
    ([name, { type, data, shape }]) => [name, new ort.Tensor(type, data as Float32Array, shape)] as const,
  );
  await session.run(Object.fromEntries(feeds));
  await session.release();
}

async function runTorch(path: string, inputs: Tensors): Promise<void> {
  const { addon } = loadAddon();
  const options = checkTorchOptions({});
  const model = addon.load(path, await readFile(path), options);
  const runner = new TorchRunner(model, availableParallelism(), options);
  runner.run({ kind: 'run', inputs: Object.entries(inputs), outputs: undefined, into: [] });
  runner.release();
}

/** The image where a model takes one, and seeded values for whatever else it takes. */
async function inputsOf({ inputs }: SessionMetadata, image: string | undefined): Promise<Tensors> {
  const random = createRandom(1);
  const wanted = inputs.filter(({ optional, many }) => optional !== true && many === undefined);
  const imageSpec = wanted.find((spec) => imageLayout(spec) !== undefined);
  if (image !== undefined && imageSpec === undefined) {
    throw new InferkvError(
      'ERR_INFERKV_INPUT_INVALID',
      'The model takes no image: no input is float32 of the shape [N, 3, H, W] or [N, H, W, 3]. Leave --image out.',
    );
  }
  const made = await Promise.all(
    wanted.map(async (spec): Promise<readonly [string, Tensor]> => {
      if (spec === imageSpec) return [spec.name, image === undefined ? seededImage(spec) : await imageFor(spec, image)];
      return [spec.name, seededFor(spec, random)];
    }),
  );
  return Object.fromEntries(made);
}

/** A model that does not say what it takes is taken for one of torchvision's. */
function imageLayout({ type, shape }: TensorSpec): 'nchw' | 'nhwc' | undefined {
  if (type === 'any' && shape === 'any') return 'nchw';
  if (type !== 'float32' || shape === 'any' || shape.length !== 4) return undefined;
  if (shape[1] === 3) return 'nchw';
  return shape[3] === 3 ? 'nhwc' : undefined;
}

function imageSize(spec: TensorSpec): { readonly height: number; readonly width: number } {
  const shape = spec.shape === 'any' ? [] : spec.shape;
  const [height, width] = imageLayout(spec) === 'nhwc' ? shape.slice(1, 3) : shape.slice(2, 4);
  return { height: sideOf(height), width: sideOf(width) };
}

function sideOf(size: number | string | undefined): number {
  return typeof size === 'number' ? size : IMAGE_SIDE;
}

function imageFor(spec: TensorSpec, path: string): Promise<Tensor> {
  return readImage(path, { ...imageSize(spec), layout: imageLayout(spec) ?? 'nchw' });
}

function seededImage(spec: TensorSpec): Tensor {
  const { height, width } = imageSize(spec);
  if (imageLayout(spec) === 'nchw' && height === IMAGE_SIDE && width === IMAGE_SIDE) return syntheticImage();
  const shape = imageLayout(spec) === 'nhwc' ? [1, height, width, 3] : [1, 3, height, width];
  return seededFor({ name: spec.name, type: 'float32', shape }, createRandom(1));
}

function seededFor({ type: declared, shape: sizes }: TensorSpec, random: Random): Tensor {
  const type = declared === 'any' ? 'float32' : declared;
  const shape = sizes === 'any' ? [1] : sizes.map((size) => (typeof size === 'number' ? size : 1));
  if (type === 'string') return { type, shape, data: Array.from({ length: elementCount(shape) }, () => '') };
  const data = numericView(type, shape, new ArrayBuffer(byteLengthOf(type, shape)));
  const isFloat = data instanceof Float32Array || data instanceof Float64Array || data instanceof Float16Array;
  if (isFloat) for (let i = 0; i < data.length; i++) data[i] = random.next() * 2 - 1;
  return { type, shape, data };
}
