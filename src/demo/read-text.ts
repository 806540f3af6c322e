import { join } from 'node:path';

import { InferkvError } from '../base/errors.ts';
import type { Tensor } from '../base/tensor.ts';
import { cropped, imageTensor, type Pixels, type Region } from '../images/image.ts';
import type { CachedModel } from '../inference/cached-model.ts';
import type { CacheReport } from '../inference/result-cache.ts';
import { decodeCtc, type DecodedText } from './ctc.ts';
import { textBoxes } from './text-boxes.ts';
import { DETECTION_IMAGE, RECOGNITION_IMAGE, textCharacters } from './text-models.ts';

/** A line of text on an image. */
export interface TextLine extends DecodedText {
  /** Where it stands, in pixels of the image. */
  readonly box: Region;
}

/** What was read, and how the answers of the models came about. */
export interface ReadText {
  readonly lines: readonly TextLine[];
  readonly detection: CacheReport;
  readonly recognition: readonly CacheReport[];
}

/** Models by their names; an inference cache is one. */
export interface TextModels {
  model(name: string): CachedModel;
}

/** An image with text, to try `readText` on. */
export const SAMPLE_IMAGE: string = join(import.meta.dirname, '..', '..', 'assets', 'notice.png');

const INPUT = 'x';
const MIN_CONFIDENCE = 0.5;

/**
 * Reads the text on an image: finds it, cuts it out, recognises each piece. Every answer of a model is kept, so the same
 * image, or the same piece on another one, is not looked at twice.
 *
 * @throws InferkvError `ERR_INFERKV_PEER_MISSING` without the models' package, and what running a model throws
 */
export async function readText(models: TextModels, image: Pixels): Promise<ReadText> {
  const characters = await textCharacters();
  const found = await models.model('text-detection').run({ [INPUT]: await imageTensor(image, DETECTION_IMAGE) });
  const map = onlyOutput(found.outputs);
  const [height = 1, width = 1] = map.shape.slice(2);
  const boxes = textBoxes({ width, height, probabilities: map.data as Float32Array });
  const recogniser = models.model('text-recognition');
  const pieces = await Promise.all(
    boxes.map(async (scaledBox) => {
      const box = rescaled(scaledBox, image.width / width, image.height / height, image);
      const piece = await imageTensor(await cropped(image, box), RECOGNITION_IMAGE);
      const { outputs, cache } = await recogniser.run({ [INPUT]: piece });
      return { line: { box, ...decodeCtc(onlyOutput(outputs).data as Float32Array, characters) }, cache };
    }),
  );
  return {
    lines: pieces.map(({ line }) => line).filter(({ text, confidence }) => text !== '' && confidence >= MIN_CONFIDENCE),
    detection: found.cache,
    recognition: pieces.map(({ cache }) => cache),
  };
}

function onlyOutput(outputs: Readonly<Record<string, Tensor>>): Tensor {
  const [output] = Object.values(outputs);
  if (output?.data instanceof Float32Array) return output;
  throw new InferkvError('ERR_INFERKV_ENGINE_FAILED', 'The model does not answer as a model that reads text does.');
}

/** From the detector's pixels to those of the image, within its edges. */
function rescaled({ left, top, width, height }: Region, byX: number, byY: number, image: Pixels): Region {
  const x = Math.min(Math.round(left * byX), image.width - 1);
  const y = Math.min(Math.round(top * byY), image.height - 1);
  return {
    left: x,
    top: y,
    width: Math.max(1, Math.min(Math.round(width * byX), image.width - x)),
    height: Math.max(1, Math.min(Math.round(height * byY), image.height - y)),
  };
}
