#!/usr/bin/env node
import { createRequire } from 'node:module';

import { Command } from 'commander';

import { isInferkvError } from '../base/errors.ts';
import { demoCommand } from './demo.ts';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

const program = new Command('inferkv')
  .description('A KV-cache for model inference: keeps what would otherwise be loaded or computed again.')
  .version(version)
  .addCommand(demoCommand())
  .showHelpAfterError();

try {
  await program.parseAsync();
} catch (error) {
  // What the world did wrong gets one line; what we did wrong its stack.
  process.stderr.write(
    isInferkvError(error)
      ? `inferkv: ${error.message} (${error.code})\n`
      : `${String((error as Error).stack ?? error)}\n`,
  );
  process.exitCode = 1;
}
