/** Inputs of a model from files: .npy, .json, .raw or .bin, and images. */
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';

import { InferkvError, messageOf } from '../base/errors.ts';
import { byteLengthOf, ELEMENT_BYTES, numericView, type Tensor } from '../base/tensor.ts';
import type { TensorSpec } from '../engines/engine.ts';
import { readImageTensor } from '../images/image.ts';
import { IMAGENET, type ImageSettings } from '../images/image-settings.ts';
import { tensorFromJson } from '../server/open-inference/json-data.ts';
import { decodeNpy } from './npy.ts';

const IMAGE_ENDINGS = ['.png', '.jpg', '.jpeg', '.webp'];

/**
 * The tensor that a file holds for an input.
 *
 * @param image how the model wants images; as ImageNet models do if it does not say
 * @throws InferkvError `ERR_INFERKV_INPUT_INVALID` for a file that cannot be read or does not suit the input
 */
export async function readInput(spec: TensorSpec, path: string, image: ImageSettings | undefined): Promise<Tensor> {
  const ending = extname(path).toLowerCase();
  if (IMAGE_ENDINGS.includes(ending)) return readImageTensor(path, image ?? imageSettingsFor(spec));
  const bytes = await readFile(path).catch((error: unknown) => {
    throw invalid(path, `cannot be read: ${messageOf(error)}`, error);
  });
  switch (ending) {
    case '.npy':
      return decodeNpy(path, bytes);
    case '.json':
      return fromJson(spec, path, bytes.toString('utf8'));
    case '.raw':
    case '.bin':
      return fromRaw(spec, path, bytes);
    default:
      throw invalid(
        path,
        `is of no kind that is read here; there are .npy, .json, .raw, .bin, ${IMAGE_ENDINGS.join(', ')}`,
      );
  }
}

function imageSettingsFor({ name, shape }: TensorSpec): ImageSettings {
  // As models of torchvision want it, which say nothing themselves.
  if (shape === 'any') return { ...IMAGENET, layout: 'nchw' };
  const layout = shape[1] === 3 ? 'nchw' : 'nhwc';
  if (shape.length !== 4 || (layout === 'nhwc' && shape[3] !== 3)) {
    throw invalid(name, `takes no image: its shape is [${shape.join(', ')}]`);
  }
  const [height, width] = layout === 'nchw' ? shape.slice(2) : shape.slice(1, 3);
  return {
    ...IMAGENET,
    layout,
    ...(typeof height === 'number' && { height }),
    ...(typeof width === 'number' && { width }),
  };
}

/** Arrays nested by dimension; float32 for a model that does not say. */
function fromJson({ name, type }: TensorSpec, path: string, text: string): Tensor {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw invalid(path, `is no JSON: ${messageOf(error)}`, error);
  }
  const shape: number[] = [];
  for (let at = content; Array.isArray(at); at = (at as unknown[])[0]) shape.push(at.length);
  const isScalar = shape.length === 0;
  return tensorFromJson(name, type === 'any' ? 'float32' : type, isScalar ? [] : shape, isScalar ? [content] : content);
}

/** Bare little-endian numbers; at most one dimension may be free, and follows from their number. */
function fromRaw({ name, type, shape }: TensorSpec, path: string, bytes: Buffer): Tensor {
  if (type === 'any' || shape === 'any') {
    throw invalid(path, `does not say its type and shape, and neither does the model for "${name}"; give .npy`);
  }
  if (type === 'string') throw invalid(path, `cannot hold the strings that the input "${name}" takes; give .json`);
  const free = shape.filter((size) => typeof size !== 'number').length;
  if (free > 1) throw invalid(path, `does not say its shape, and "${name}" has ${free} free dimensions; give .npy`);
  const rest = shape.reduce<number>((product, size) => (typeof size === 'number' ? product * size : product), 1);
  const elements = bytes.length / ELEMENT_BYTES[type];
  const actual = shape.map((size) => (typeof size === 'number' ? size : Math.floor(elements / rest)));
  if (byteLengthOf(type, actual) !== bytes.length) {
    throw invalid(path, `has ${bytes.length} bytes, which are no ${type} [${shape.join(', ')}] for "${name}"`);
  }
  return { type, shape: actual, data: numericView(type, actual, Uint8Array.from(bytes).buffer) };
}

function invalid(path: string, fault: string, cause?: unknown): InferkvError {
  return new InferkvError('ERR_INFERKV_INPUT_INVALID', `${path} ${fault}.`, { cause, key: path });
}
