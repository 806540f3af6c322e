import { readFile } from 'node:fs/promises';

import { InferkvError, messageOf } from '../base/errors.ts';
import { createRandom } from '../base/random.ts';
import { isStrings, type Tensor } from '../base/tensor.ts';
import { readImageTensor, normalised } from '../images/image.ts';
import { IMAGENET } from '../images/image-settings.ts';

/** How an image becomes a tensor. */
export interface ImageOptions {
  /** Pixels high; 224 if left out. */
  readonly height?: number;
  /** Pixels wide; 224 if left out. */
  readonly width?: number;
  /** `nchw`: channels before rows; `nhwc`: channels last. `nchw` if left out. */
  readonly layout?: 'nchw' | 'nhwc';
}

/** A class with the share a model gives it. */
export interface RankedClass {
  /** Position in the model's output, from 0. */
  readonly index: number;
  readonly label: string;
  /** In [0, 1]. */
  readonly probability: number;
}

const DEFAULT_SIDE = 224;
const CHANNELS = 3;

/**
 * An image as the input of an ImageNet model: scaled, cropped at its centre, normalised by ImageNet's mean and deviation.
 *
 * @returns float32 `[1, 3, height, width]`, or `[1, height, width, 3]`
 * @throws InferkvError `ERR_INFERKV_PEER_MISSING` without the package sharp, `ERR_INFERKV_INPUT_INVALID` for what is no image
 */
export async function readImage(path: string, options: ImageOptions = {}): Promise<Tensor> {
  return readImageTensor(path, { ...IMAGENET, ...options });
}

/** An image of coloured noise that follows from `seed`: float32 `[1, 3, 224, 224]`, normalised like `readImage`. */
export function syntheticImage(seed = 1): Tensor {
  const random = createRandom(seed);
  const pixels = Uint8Array.from({ length: CHANNELS * DEFAULT_SIDE * DEFAULT_SIDE }, () => random.below(256));
  return normalised({ width: DEFAULT_SIDE, height: DEFAULT_SIDE, data: pixels }, IMAGENET);
}

/** Class names, one a line, in the order of a model's output. */
export async function readLabels(path: string): Promise<readonly string[]> {
  try {
    return (await readFile(path, 'utf8')).split(/\r?\n/).filter((line) => line.trim() !== '');
  } catch (error) {
    throw new InferkvError('ERR_INFERKV_INPUT_INVALID', `The labels ${path} cannot be read: ${messageOf(error)}`, {
      cause: error,
      key: path,
    });
  }
}

/** The classes that a model's logits rank highest, by softmax. */
export function topClasses(logits: Tensor, labels: readonly string[] = [], count = 5): readonly RankedClass[] {
  const { data } = logits;
  if (isStrings(data)) throw new InferkvError('ERR_INFERKV_INPUT_INVALID', 'Logits must be numbers, not strings.');
  const values = Array.from(data, Number);
  const highest = values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
  const weights = values.map((value) => Math.exp(value - highest));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights
    .map((weight, index) => ({ index, label: labels[index] ?? `class ${index}`, probability: weight / sum }))
    .toSorted((a, b) => b.probability - a.probability)
    .slice(0, count);
}
