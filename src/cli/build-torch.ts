/** `inferkv build-torch`: builds the addon that runs TorchScript models. */
import { Command } from 'commander';

import { buildAddon } from '../engines/torchscript/build.ts';
import { print, printJson, withProgress } from './common.ts';

export function buildTorchCommand(): Command {
  return new Command('build-torch')
    .description('builds the addon that runs TorchScript models, for the libtorch of this machine')
    .option('--json', 'print the result as one JSON object')
    .action(buildTorch);
}

async function buildTorch({ json }: { readonly json?: true }): Promise<void> {
  const start = performance.now();
  const { built, libtorch, path } = await withProgress('Compiling the addon for libtorch', () => buildAddon());
  const { version, source, libraryFolder } = libtorch;
  if (json === true) {
    printJson({ built, path, libtorch: { version, source, libraryFolder } });
    return;
  }
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  const from = `libtorch ${version} (${source}: ${libraryFolder})`;
  print(built ? `Built for ${from} in ${seconds} s.` : `Up to date, for ${from}.`);
}
