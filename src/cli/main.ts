#!/usr/bin/env node
import { createRequire } from 'node:module';

import { Command } from 'commander';

import { benchCommand } from './bench.ts';
import { buildTorchCommand } from './build-torch.ts';
import { EXIT, reportError } from './common.ts';
import { configCommand } from './config.ts';
import { demoCommand } from './demo.ts';
import { explainCommand } from './explain.ts';
import { keysCommand } from './keys.ts';
import { modelsCommand } from './models.ts';
import { recordCommand } from './record.ts';
import { runCommand } from './run.ts';
import { serveCommand } from './serve.ts';
import { simulateCommand } from './simulate.ts';
import { statsCommand } from './stats.ts';
import { whatIfCommand } from './what-if.ts';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

const program = new Command('inferkv')
  .description('A KV-cache for model inference: keeps what would otherwise be loaded or computed again.')
  .version(version)
  .showHelpAfterError();

const commands = [
  serveCommand(),
  runCommand(),
  modelsCommand(),
  configCommand(),
  keysCommand(),
  statsCommand(),
  explainCommand(),
  whatIfCommand(),
  recordCommand(),
  simulateCommand(),
  benchCommand(),
  demoCommand(),
  buildTorchCommand(),
];
for (const command of commands) program.addCommand(command);

/** Wrong usage has an exit code of its own, in every command. */
function exitsByMeaning(command: Command): void {
  command.exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : EXIT.usage));
  for (const each of command.commands) exitsByMeaning(each);
}
exitsByMeaning(program);

// Whoever reads what is printed may have seen enough (`| head`): no fault, and files are still to be written.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = reportError(error, process.argv.includes('--json'));
}
