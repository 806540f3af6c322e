/** Finds libtorch and a C++ compiler on this machine. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { InferkvError } from '../../base/errors.ts';

/** An installed libtorch. */
export interface Libtorch {
  /** Where it was found, for people: `LIBTORCH`, `CMAKE_PREFIX_PATH`, `system` or `python`. */
  readonly source: string;
  readonly version: string;
  readonly includeFolders: readonly string[];
  readonly libraryFolder: string;
  /** Which of GCC's two string layouts it was built with. */
  readonly cxx11Abi: boolean;
}

const VERSION_HEADER = 'torch/csrc/api/include/torch/version.h';
const PACKAGE_CONFIG = 'cmake/Torch/TorchConfig.cmake';
const LIBRARY_FOLDERS = ['lib', `lib/${multiarch()}`, 'lib64'];
const LIBRARIES = ['libtorch.so', 'libtorch.dylib'];

/** Debian's name for this kind of machine, which its library folders have. */
function multiarch(): string {
  const machine = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as string] ?? process.arch;
  return `${machine}-linux-gnu`;
}

/**
 * The first libtorch that is found: `LIBTORCH` (its folder), `CMAKE_PREFIX_PATH`, the system's, python's torch.
 *
 * @throws InferkvError `ERR_INFERKV_PEER_MISSING`, which says how to get it
 */
export function findLibtorch(env: NodeJS.ProcessEnv = process.env): Libtorch {
  const named = env['LIBTORCH'];
  if (named !== undefined && named !== '') {
    const found = libtorchAt(named, 'LIBTORCH');
    if (found !== undefined) return found;
    throw missing(`LIBTORCH names ${named}, where it is not`);
  }
  const places: readonly (readonly [string, string])[] = [
    ...(env['CMAKE_PREFIX_PATH'] ?? '').split(/[:;]/).map((path) => ['CMAKE_PREFIX_PATH', path] as const),
    ['system', '/usr'],
    ['system', '/usr/local'],
    ['system', '/opt/homebrew'],
    ...pythonFolders(env).map((path) => ['python', path] as const),
  ];
  for (const [source, path] of places) {
    const found = path === '' ? undefined : libtorchAt(path, source);
    if (found !== undefined) return found;
  }
  throw missing('was not found');
}

function missing(what: string): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_PEER_MISSING',
    `libtorch ${what}. On Debian or Ubuntu: apt-get install libtorch-dev libopenblas0-pthread; elsewhere: pip install torch, or download it from pytorch.org and name its folder by LIBTORCH.`,
    { key: 'libtorch' },
  );
}

/** @param prefix the folder with `include` and `lib`, or `share/cmake` of such a folder, as CMake has it */
function libtorchAt(prefix: string, source: string): Libtorch | undefined {
  for (const root of [prefix, join(prefix, '../..')]) {
    const include = join(root, 'include');
    const header = join(include, VERSION_HEADER);
    const libraryFolder = LIBRARY_FOLDERS.map((folder) => join(root, folder)).find((folder) =>
      LIBRARIES.some((library) => existsSync(join(folder, library))),
    );
    if (libraryFolder === undefined || !existsSync(header)) continue;
    return {
      source,
      version: versionIn(header),
      includeFolders: [include, join(include, 'torch/csrc/api/include')],
      libraryFolder,
      cxx11Abi: cxx11AbiOf(root),
    };
  }
  return undefined;
}

function versionIn(header: string): string {
  const text = readFileSync(header, 'utf8');
  const part = (name: string): string => new RegExp(`#define TORCH_VERSION_${name} (\\d+)`).exec(text)?.[1] ?? '?';
  return ['MAJOR', 'MINOR', 'PATCH'].map(part).join('.');
}

function cxx11AbiOf(root: string): boolean {
  const config = join(root, 'share', PACKAGE_CONFIG);
  return !existsSync(config) || !readFileSync(config, 'utf8').includes('_GLIBCXX_USE_CXX11_ABI=0');
}

/** Interpreters to ask, the one that `PYTHON` names first. */
function pythons(env: NodeJS.ProcessEnv): readonly string[] {
  const named = env['PYTHON'];
  return [...(named === undefined || named === '' ? [] : [named]), 'python3', '/usr/bin/python3'];
}

/** The folder of a package of Python's, without importing it. */
function pythonPackage(python: string, name: string): string | undefined {
  const script = `import importlib.util as u; print(u.find_spec("${name}").submodule_search_locations[0])`;
  try {
    return execFileSync(python, ['-c', script], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
}

function pythonFolders(env: NodeJS.ProcessEnv): readonly string[] {
  return pythons(env).flatMap((python) => pythonPackage(python, 'torch') ?? []);
}

/** A Python that has the packages; `undefined` if there is none. */
export function pythonWith(...packages: readonly string[]): string | undefined {
  return pythons(process.env).find((python) => packages.every((name) => pythonPackage(python, name) !== undefined));
}

/** @throws InferkvError `ERR_INFERKV_PEER_MISSING` if there is no C++ compiler */
export function findCompiler(env: NodeJS.ProcessEnv = process.env): {
  readonly command: string;
  readonly version: string;
} {
  const named = env['CXX'];
  for (const command of named === undefined || named === '' ? ['c++', 'g++', 'clang++'] : [named]) {
    try {
      const text = execFileSync(command, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
      return { command, version: text.split('\n')[0] ?? '' };
    } catch {
      continue;
    }
  }
  throw new InferkvError(
    'ERR_INFERKV_PEER_MISSING',
    `There is no C++ compiler${named === undefined ? '' : ` ${named}`}. On Debian or Ubuntu: apt-get install g++; on macOS: xcode-select --install; or name one by CXX.`,
    { key: 'c++' },
  );
}
