import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { isInferkvError } from '../../base/errors.ts';
import { TempFolder } from '../../../test/support/temp.ts';
import { findCompiler, findLibtorch } from './toolchain.ts';

/** A folder that looks like libtorch. */
function libtorchIn(folder: TempFolder, name: string, version: readonly [number, number, number]): string {
  const [major, minor, patch] = version;
  const header = `#define TORCH_VERSION_MAJOR ${major}\n#define TORCH_VERSION_MINOR ${minor}\n#define TORCH_VERSION_PATCH ${patch}\n`;
  folder.write(`${name}/include/torch/csrc/api/include/torch/version.h`, header);
  folder.write(`${name}/lib/libtorch.so`, '');
  return folder.at(name);
}

const PATH = process.env['PATH'];

describe('finding libtorch', () => {
  it('takes LIBTORCH before CMAKE_PREFIX_PATH, and that before the system', () => {
    using folder = new TempFolder();
    const named = libtorchIn(folder, 'named', [2, 1, 0]);
    const prefix = libtorchIn(folder, 'prefix', [2, 2, 1]);
    const other = folder.at('other');
    const found = findLibtorch({ PATH, LIBTORCH: named, CMAKE_PREFIX_PATH: prefix });
    assert.deepEqual(
      [found.source, found.version, found.libraryFolder],
      ['LIBTORCH', '2.1.0', folder.at('named', 'lib')],
    );
    const second = findLibtorch({ PATH, LIBTORCH: '', CMAKE_PREFIX_PATH: `${other}:${prefix}` });
    assert.deepEqual([second.source, second.version], ['CMAKE_PREFIX_PATH', '2.2.1']);
  });

  it('takes the folder that CMake is given, too', () => {
    using folder = new TempFolder();
    const prefix = libtorchIn(folder, 'torch', [2, 3, 0]);
    folder.write('torch/share/cmake/Torch/TorchConfig.cmake', 'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0")');
    const found = findLibtorch({ PATH, CMAKE_PREFIX_PATH: `${prefix}/share/cmake` });
    assert.deepEqual([found.version, found.cxx11Abi], ['2.3.0', false]);
  });

  it('does not look elsewhere when what LIBTORCH names is none', () => {
    using folder = new TempFolder();
    assert.throws(
      () => findLibtorch({ PATH, LIBTORCH: folder.path }),
      (error) => isInferkvError(error, 'ERR_INFERKV_PEER_MISSING') && error.message.includes('apt-get install'),
    );
  });

  it('says which compiler is missing and how to get one', () => {
    assert.throws(
      () => findCompiler({ PATH, CXX: 'no-such-compiler' }),
      (error) => isInferkvError(error, 'ERR_INFERKV_PEER_MISSING') && /no-such-compiler.*apt-get/.test(error.message),
    );
  });
});
