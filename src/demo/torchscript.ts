import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { InferkvError, messageOf } from '../base/errors.ts';
import { pythonWith } from '../engines/torchscript/toolchain.ts';
import { cacheFolder, type DemoRepositoryOptions } from './repository.ts';

const SCRIPT = join(import.meta.dirname, '..', '..', 'assets', 'script_resnet50.py');

// Models may be named as in the other demo repository, so that the two can be told the same story.
const MODEL_PATH = ['resnet50', '1', 'model.pt'];

/**
 * A repository with torchvision's ResNet-50 as a TorchScript program, `resnet50`, with seeded weights. Python scripts it
 * once (some seconds); it is found again afterwards. Its answers mean nothing.
 *
 * @returns the folder, for the option `repository` of `createInferenceCache`
 * @throws InferkvError `ERR_INFERKV_PEER_MISSING` without a Python that has torch and torchvision
 */
export async function torchscriptRepository(options: DemoRepositoryOptions = {}): Promise<string> {
  const folder = options.folder ?? join(cacheFolder(), 'demo-torchscript');
  const path = join(folder, ...MODEL_PATH);
  const marker = join(dirname(path), 'generated.json');
  const script = createHash('sha256')
    .update(await readFile(SCRIPT))
    .digest('hex');
  if (await isWhole(path, marker, script)) return folder;
  const python = pythonWith('torch', 'torchvision');
  if (python === undefined) {
    throw new InferkvError(
      'ERR_INFERKV_PEER_MISSING',
      'Scripting ResNet-50 takes a Python with torch and torchvision: apt-get install python3-torch python3-torchvision, or pip install torch torchvision (and name the interpreter by PYTHON).',
      { key: 'torchvision' },
    );
  }
  options.onWrite?.(path);
  const partial = `${path}.${process.pid}.partial`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await scripted(python, partial);
    await rename(partial, path);
    await writeFile(marker, JSON.stringify({ script, sizeBytes: (await stat(path)).size }));
  } catch (error) {
    await rm(partial, { force: true });
    throw new InferkvError('ERR_INFERKV_REPOSITORY_INVALID', `ResNet-50 could not be scripted: ${messageOf(error)}`, {
      cause: error,
      key: path,
    });
  }
  return folder;
}

async function isWhole(path: string, marker: string, script: string): Promise<boolean> {
  try {
    const { size } = await stat(path);
    return (await readFile(marker, 'utf8')) === JSON.stringify({ script, sizeBytes: size });
  } catch {
    return false;
  }
}

async function scripted(python: string, path: string): Promise<void> {
  const child = spawn(python, [SCRIPT, path], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said = `${said}${text}`.slice(-2000)));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new Error(said.trim().split('\n').at(-1) ?? `python ended with code ${String(code)}`);
}
