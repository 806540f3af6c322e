import type { Sharp, SharpConstructor } from 'sharp';

import { InferkvError, messageOf } from '../base/errors.ts';
import type { Tensor } from '../base/tensor.ts';
import type { ImageSettings } from './image-settings.ts';

const CHANNELS = 3;

/** A part of an image, in its own pixels. */
export interface Region {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** Pixels of an image: three bytes each, row by row. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/**
 * The pixels of an image file (PNG, JPEG, WebP and more), turned upright, on white where it is transparent.
 *
 * @throws InferkvError `ERR_INFERKV_PEER_MISSING` without the package sharp, `ERR_INFERKV_INPUT_INVALID` for what is no image
 */
export async function readPixels(path: string): Promise<Pixels> {
  const sharp = await loadSharp();
  return readable(path, () =>
    raw(sharp(path).autoOrient().flatten({ background: 'white' }).toColourspace('srgb').removeAlpha()),
  );
}

/** A part of an image, cut out. */
export async function cropped(pixels: Pixels, region: Region): Promise<Pixels> {
  return raw((await opened(pixels)).extract(region));
}

/**
 * An image as a model's input: scaled and normalised as the settings say.
 *
 * @returns float32 `[1, 3, height, width]`, or `[1, height, width, 3]` for the layout `nhwc`
 */
export async function imageTensor(pixels: Pixels, settings: ImageSettings): Promise<Tensor> {
  return normalised(await scaled(pixels, settings), settings);
}

/** As `imageTensor`, from a file. */
export async function readImageTensor(path: string, settings: ImageSettings): Promise<Tensor> {
  return imageTensor(await readPixels(path), settings);
}

/** Normalises pixels that are scaled already. */
export function normalised({ width, height, data: pixels }: Pixels, settings: ImageSettings): Tensor {
  const { layout = 'nchw', channels = 'rgb', mean = [0, 0, 0], deviation = [1, 1, 1] } = settings;
  const area = height * width;
  const data = new Float32Array(CHANNELS * area);
  for (let channel = 0; channel < CHANNELS; channel++) {
    const from = channels === 'rgb' ? channel : CHANNELS - 1 - channel;
    const [shift, scale] = [mean[channel] ?? 0, deviation[channel] ?? 1];
    for (let at = 0; at < area; at++) {
      const to = layout === 'nchw' ? channel * area + at : CHANNELS * at + channel;
      data[to] = ((pixels[CHANNELS * at + from] ?? 0) / 255 - shift) / scale;
    }
  }
  const shape = layout === 'nchw' ? [1, CHANNELS, height, width] : [1, height, width, CHANNELS];
  return { type: 'float32', shape, data };
}

async function scaled(pixels: Pixels, settings: ImageSettings): Promise<Pixels> {
  const { fit = 'crop', margin = 1 } = settings;
  const { width, height } = targetSize(pixels, settings);
  const isCrop = fit === 'crop' && settings.width !== undefined && settings.height !== undefined;
  if (!isCrop) return raw((await opened(pixels)).resize({ width, height, fit: 'fill' }));
  const covering = await raw(
    (await opened(pixels)).resize({
      width: Math.round(width * margin),
      height: Math.round(height * margin),
      fit: 'outside',
    }),
  );
  const left = Math.floor((covering.width - width) / 2);
  const top = Math.floor((covering.height - height) / 2);
  return cropped(covering, { left, top, width, height });
}

/** The size an image is to have: what is given, and for the rest its own proportions within the bounds. */
function targetSize(
  { width, height }: Pixels,
  { width: wantedWidth, height: wantedHeight, multipleOf = 1, maxSide = Number.POSITIVE_INFINITY }: ImageSettings,
): { readonly width: number; readonly height: number } {
  const scale =
    wantedHeight !== undefined
      ? wantedHeight / height
      : wantedWidth !== undefined
        ? wantedWidth / width
        : Math.min(1, maxSide / Math.max(width, height));
  const side = (length: number): number =>
    Math.max(multipleOf, Math.round(Math.min(length * scale, maxSide) / multipleOf) * multipleOf);
  return { width: wantedWidth ?? side(width), height: wantedHeight ?? side(height) };
}

async function opened({ width, height, data }: Pixels): Promise<Sharp> {
  return (await loadSharp())(data, { raw: { width, height, channels: CHANNELS } });
}

async function raw(image: Sharp): Promise<Pixels> {
  const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, data };
}

async function readable<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw new InferkvError('ERR_INFERKV_INPUT_INVALID', `The image ${path} cannot be read: ${messageOf(error)}`, {
      cause: error,
      key: path,
    });
  }
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
