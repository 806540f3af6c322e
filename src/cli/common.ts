/** What the commands share: flags, configuration, output, progress, exit codes. */
import type { Command } from 'commander';

import { InferkvError, isInferkvError, messageOf, type ErrorCode } from '../base/errors.ts';
import { loadConfig, type LoadedConfig } from '../config/load.ts';

/** Flags of every command that reads the configuration. */
export interface CommonFlags {
  readonly config?: string;
  readonly repository?: string;
  readonly set?: readonly string[];
  readonly json?: true;
}

/** 0 all well, 1 failed, 2 wrong usage or configuration, 3 not found, 4 input refused, 5 busy or too late: worth another try. */
export const EXIT = { failed: 1, usage: 2, notFound: 3, refused: 4, busy: 5 } as const;

const EXIT_OF_CODE: Partial<Readonly<Record<ErrorCode, number>>> = {
  ERR_INFERKV_CONFIG_INVALID: EXIT.usage,
  ERR_INFERKV_POLICY_UNKNOWN: EXIT.usage,
  ERR_INFERKV_MODEL_NAME_INVALID: EXIT.usage,
  ERR_INFERKV_MODEL_NOT_FOUND: EXIT.notFound,
  ERR_INFERKV_ARTIFACT_MISSING: EXIT.notFound,
  ERR_INFERKV_REPOSITORY_INVALID: EXIT.notFound,
  ERR_INFERKV_TRACE_MISSING: EXIT.notFound,
  ERR_INFERKV_TRACE_INVALID: EXIT.refused,
  ERR_INFERKV_INPUT_INVALID: EXIT.refused,
  ERR_INFERKV_INPUT_MISSING: EXIT.refused,
  ERR_INFERKV_INPUT_UNKNOWN: EXIT.refused,
  ERR_INFERKV_OUTPUT_UNKNOWN: EXIT.refused,
  ERR_INFERKV_DEADLINE: EXIT.busy,
  ERR_INFERKV_OVERLOADED: EXIT.busy,
  ERR_INFERKV_SERVER_UNREACHABLE: EXIT.busy,
  ERR_INFERKV_UNAUTHORIZED: EXIT.refused,
  ERR_INFERKV_FORBIDDEN: EXIT.refused,
  ERR_INFERKV_BODY_INVALID: EXIT.refused,
  ERR_INFERKV_WHAT_IF_OFF: EXIT.notFound,
};

const PROGRESS_AFTER_MS = 1000;
const PROGRESS_EVERY_MS = 250;

/** Adds the flags of every command that reads the configuration. */
export function withConfigFlags(command: Command): Command {
  return command
    .option('--config <file>', 'the configuration file; inferkv.config.ts, .js or .json of this folder if left out')
    .option('--repository <folder>', 'the folder with the models')
    .option('--set <path=value...>', 'any setting, like partitions.results.budgetBytes=1GB')
    .option('--json', 'print JSON and nothing else');
}

/** The configuration for a command; `more` are further flags by the path of their setting. */
export async function configOf(
  flags: CommonFlags,
  more: Readonly<Record<string, string | undefined>> = {},
): Promise<LoadedConfig> {
  const given = new Map<string, string>();
  for (const each of flags.set ?? []) {
    const at = each.indexOf('=');
    if (at < 1) throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `--set ${each}: write it as path=value.`);
    given.set(each.slice(0, at), each.slice(at + 1));
  }
  for (const [path, text] of Object.entries({ repository: flags.repository, ...more })) {
    if (text !== undefined) given.set(path, text);
  }
  return loadConfig({ folder: process.cwd(), file: flags.config, environment: process.env, flags: given });
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, (_name, each: unknown) => (typeof each === 'bigint' ? Number(each) : each)));
}

/** Columns as wide as their widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, cell.length);
  const lines = rows.map((row) => row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join('  '));
  return lines.map((line) => `  ${line.trimEnd()}`).join('\n');
}

/** Does some work; once that takes over a second, says on a terminal what it is and for how long. */
export async function withProgress<T>(what: string, work: () => Promise<T>): Promise<T> {
  if (!process.stderr.isTTY) return work();
  const start = performance.now();
  let shown = false;
  const show = (): void => {
    const elapsedMs = performance.now() - start;
    if (elapsedMs < PROGRESS_AFTER_MS) return;
    shown = true;
    process.stderr.write(`\r${what} (${(elapsedMs / 1000).toFixed(0)} s)`);
  };
  const timer = setInterval(show, PROGRESS_EVERY_MS);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    if (shown) process.stderr.write('\r\u001B[K');
  }
}

/** Tells a person or a program what went wrong, and gives the exit code for it. */
export function reportError(error: unknown, asJson: boolean): number {
  const ours = isInferkvError(error);
  const code = ours ? error.code : 'ERR_INFERKV_INTERNAL';
  // What the world did wrong gets one line; what we did wrong its stack.
  const text = ours ? `inferkv: ${error.message} (${code})` : String((error as Error).stack ?? error);
  process.stderr.write(`${asJson ? JSON.stringify({ error: { code, message: messageOf(error) } }) : text}\n`);
  return (ours ? EXIT_OF_CODE[error.code] : undefined) ?? EXIT.failed;
}
