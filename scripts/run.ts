import { spawnSync } from 'node:child_process';
import { delimiter, join } from 'node:path';

const BIN = join(import.meta.dirname, '..', 'node_modules', '.bin');

/** Runs a tool of this package with its output shown; gives its exit code. */
export function run(command: string, args: readonly string[], options: { readonly cwd?: string } = {}): number {
  const env = { ...process.env, PATH: `${BIN}${delimiter}${process.env['PATH'] ?? ''}` };
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', env, ...options });
  if (error !== undefined) process.stderr.write(`${command}: ${error.message}\n`);
  return status ?? 1;
}
