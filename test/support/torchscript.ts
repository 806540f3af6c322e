/** TorchScript models for tests, and whether there is what runs and writes them. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { messageOf } from '../../src/base/errors.ts';
import { builtAddon } from '../../src/engines/torchscript/addon.ts';
import { pythonWith } from '../../src/engines/torchscript/toolchain.ts';

const SCRIPT = join(import.meta.dirname, 'torchscript_models.py');

/** Why tests that need TorchScript cannot run here; `false` if they can. In CI, where setup installs it all, they have to. */
export function torchAbsent(): string | false {
  if (process.env['CI'] !== undefined) return false;
  try {
    void builtAddon();
  } catch (error) {
    return messageOf(error);
  }
  return pythonWith('torch') === undefined ? 'there is no python3 with torch (npm run setup)' : false;
}

let folder: string | undefined;

/** The file of one of the models of `torchscript_models.py`; all are written once a machine and version of that script. */
export function torchModel(name: string): Uint8Array {
  folder ??= modelFolder();
  return readFileSync(join(folder, `${name}.pt`));
}

function modelFolder(): string {
  const python = pythonWith('torch');
  if (python === undefined) throw new Error('there is no python3 with torch: npm run setup');
  const digest = createHash('sha256').update(readFileSync(SCRIPT)).update(python).digest('hex').slice(0, 16);
  const written = join(tmpdir(), `inferkv-torchscript-models-${digest}`);
  if (existsSync(written)) return written;
  // Several test files may write them at one time; the first to finish is taken.
  const partial = mkdtempSync(`${written}.`);
  execFileSync(python, [SCRIPT, partial], { stdio: ['ignore', 'inherit', 'inherit'] });
  try {
    renameSync(partial, written);
  } catch (error) {
    rmSync(partial, { recursive: true });
    if (!existsSync(written)) throw error;
  }
  return written;
}
