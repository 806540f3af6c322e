/** Builds the addon for libtorch from the sources of the package inferkv-torchscript. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

import { InferkvError } from '../../base/errors.ts';
import { addonFolder, addonMissing } from './addon.ts';
import { buildPaths, readStamp } from './stamp.ts';
import { findCompiler, findLibtorch, type Libtorch } from './toolchain.ts';

/** What was built, or was there. */
export interface BuildResult {
  /** `false` if what is there was built from the very same. */
  readonly built: boolean;
  readonly libtorch: Libtorch;
  readonly path: string;
}

// One compilation over all sources, as reading libtorch's headers is nearly all of its time.
const UNIT = 'all.cc';

const COMPILE = ['-std=c++17', '-O2', '-fPIC', '-shared', '-Wall', '-Wextra', '-Wno-unused-parameter'];
const DEFINES = ['NAPI_VERSION=9', 'NAPI_CPP_EXCEPTIONS', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'];

/**
 * Finds libtorch and a compiler and builds the addon, unless that was done from the same sources with the same flags
 * for the same libtorch.
 *
 * @throws InferkvError `ERR_INFERKV_PEER_MISSING` for what is not there, `ERR_INFERKV_BUILD_FAILED` with what the compiler said
 */
export async function buildAddon(env: NodeJS.ProcessEnv = process.env): Promise<BuildResult> {
  const root = addonFolder();
  if (root === undefined) throw addonMissing('is not installed');
  const libtorch = findLibtorch(env);
  const compiler = findCompiler(env);
  const sources = readdirSync(join(root, 'src')).toSorted();
  const paths = buildPaths(root);
  const flags = flagsFor(libtorch, root);
  const digest = digestOf([
    compiler.version,
    libtorch.version,
    libtorch.libraryFolder,
    ...flags,
    ...sources.map((name) => `${name}\n${readFileSync(join(root, 'src', name), 'utf8')}`),
  ]);
  if (readStamp(root)?.digest === digest) return { built: false, libtorch, path: paths.addon };
  mkdirSync(paths.folder, { recursive: true });
  const unit = join(paths.folder, UNIT);
  const units = sources.filter((name) => name.endsWith('.cc'));
  writeFileSync(unit, units.map((name) => `#include "${join(root, 'src', name)}"\n`).join(''));
  // Under a name of its own first: a process that has the old one loaded keeps it, and a half-built one is never loaded.
  const partial = `${paths.addon}.${process.pid}.partial`;
  try {
    await compile(compiler.command, [...flags, unit, '-o', partial, ...linkFlags(libtorch)]);
    rmSync(paths.stamp, { force: true });
    renameSync(partial, paths.addon);
    writeFileSync(paths.stamp, `${JSON.stringify({ digest, torchVersion: libtorch.version })}\n`);
  } finally {
    rmSync(partial, { force: true });
  }
  return { built: true, libtorch, path: paths.addon };
}

function flagsFor(libtorch: Libtorch, root: string): readonly string[] {
  const packages = createRequire(join(root, 'package.json'));
  const headers = [
    dirname(packages.resolve('node-addon-api/package.json')),
    join(dirname(packages.resolve('node-api-headers/package.json')), 'include'),
  ];
  return [
    ...COMPILE,
    ...DEFINES.map((define) => `-D${define}`),
    `-D_GLIBCXX_USE_CXX11_ABI=${libtorch.cxx11Abi ? 1 : 0}`,
    ...headers.map((folder) => `-I${folder}`),
    ...libtorch.includeFolders.flatMap((folder) => (folder === '/usr/include' ? [] : ['-isystem', folder])),
  ];
}

function linkFlags({ libraryFolder }: Libtorch): readonly string[] {
  const undefinedLater = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : ['-ldl'];
  return [`-L${libraryFolder}`, `-Wl,-rpath,${libraryFolder}`, '-ltorch', '-ltorch_cpu', '-lc10', ...undefinedLater];
}

function digestOf(parts: readonly string[]): string {
  const digest = createHash('sha256');
  for (const part of parts) digest.update(`${Buffer.byteLength(part)}:${part}`);
  return digest.digest('hex');
}

async function compile(command: string, args: readonly string[]): Promise<void> {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code === 0) return;
  const shown = said.split('\n').filter((line) => /error|undefined reference|cannot find/.test(line));
  throw new InferkvError(
    'ERR_INFERKV_BUILD_FAILED',
    `${command} could not build the addon:\n${(shown.length > 0 ? shown : said.split('\n')).slice(0, 20).join('\n')}`,
    { key: command },
  );
}
