import { readFile } from 'node:fs/promises';

import type { SharpConstructor } from 'sharp';

import { InferkvError, messageOf } from '../base/errors.ts';
import { createRandom } from '../base/random.ts';
import { isStrings, type Tensor } from '../base/tensor.ts';

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

// What ImageNet models of torchvision are trained with: per channel, of pixels in [0, 1].
const MEAN = [0.485, 0.456, 0.406] as const;
const DEVIATION = [0.229, 0.224, 0.225] as const;
const CHANNELS = 3;

// The image is scaled so that its shorter side is this much longer than the crop, as torchvision does (256 to 224).
const MARGIN = 256 / 224;

const DEFAULT_SIDE = 224;

/**
 * An image as the input of an ImageNet model: scaled, cropped at its centre, normalised by ImageNet's mean and deviation.
 *
 * @returns float32 `[1, 3, height, width]`, or `[1, height, width, 3]`
 * @throws InferkvError `ERR_INFERKV_PEER_MISSING` without the package sharp, `ERR_INFERKV_INPUT_INVALID` for what is no image
 */
export async function readImage(path: string, options: ImageOptions = {}): Promise<Tensor> {
  const { height = DEFAULT_SIDE, width = DEFAULT_SIDE, layout = 'nchw' } = options;
  const sharp = await loadSharp();
  let pixels: Uint8Array;
  try {
    const { data, info } = await sharp(path)
      .autoOrient()
      .flatten({ background: 'white' })
      .toColourspace('srgb')
      .resize({ width: Math.round(width * MARGIN), height: Math.round(height * MARGIN), fit: 'outside' })
      .raw()
      .toBuffer({ resolveWithObject: true });
    const left = Math.floor((info.width - width) / 2);
    const top = Math.floor((info.height - height) / 2);
    const raw = { width: info.width, height: info.height, channels: info.channels };
    pixels = await sharp(data, { raw }).extract({ left, top, width, height }).raw().toBuffer();
  } catch (error) {
    throw new InferkvError('ERR_INFERKV_INPUT_INVALID', `The image ${path} cannot be read: ${messageOf(error)}`, {
      cause: error,
      key: path,
    });
  }
  return normalised(pixels, height, width, layout);
}

/** An image of coloured noise that follows from `seed`: float32 `[1, 3, 224, 224]`, normalised like `readImage`. */
export function syntheticImage(seed = 1): Tensor {
  const random = createRandom(seed);
  const pixels = Uint8Array.from({ length: CHANNELS * DEFAULT_SIDE * DEFAULT_SIDE }, () => random.below(256));
  return normalised(pixels, DEFAULT_SIDE, DEFAULT_SIDE, 'nchw');
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

/** From bytes, row by row, channels last. */
function normalised(pixels: Uint8Array, height: number, width: number, layout: 'nchw' | 'nhwc'): Tensor {
  const area = height * width;
  const data = new Float32Array(CHANNELS * area);
  for (const [channel, mean] of MEAN.entries()) {
    const deviation = DEVIATION[channel] ?? 1;
    for (let at = 0; at < area; at++) {
      const from = CHANNELS * at + channel;
      data[layout === 'nchw' ? channel * area + at : from] = ((pixels[from] ?? 0) / 255 - mean) / deviation;
    }
  }
  const shape = layout === 'nchw' ? [1, CHANNELS, height, width] : [1, height, width, CHANNELS];
  return { type: 'float32', shape, data };
}

async function loadSharp(): Promise<SharpConstructor> {
  try {
    return (await import('sharp')).default;
  } catch (error) {
    throw new InferkvError(
      'ERR_INFERKV_PEER_MISSING',
      'Images need the package sharp, which could not be loaded; install it with: npm install sharp@^0.35.0',
      { cause: error, key: 'sharp' },
    );
  }
}
