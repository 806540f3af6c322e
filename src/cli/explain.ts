/** `inferkv explain`: what a running server knows of a key. */
import { Command } from 'commander';

import { formatBytes } from '../base/bytes.ts';
import { ask, withAskFlags, type AskFlags } from './ask-server.ts';
import { print, printJson, table } from './common.ts';

export function explainCommand(): Command {
  return withAskFlags(new Command('explain'))
    .description('asks a running server what it knows of a key: where its entry is, or why it is not there')
    .argument('<key>', 'the key, as the header cache-status of an answer has it')
    .action(async (key: string, flags: AskFlags) => {
      const explanation = await ask<Readonly<Record<string, unknown>>>(
        `/v1/cache/explain/${encodeURIComponent(key)}`,
        flags,
      );
      if (flags.json === true) printJson(explanation);
      else print(table(Object.entries(explanation).map(([name, value]) => [inWords(name), textOf(name, value)])));
    });
}

/** `chargedBytes` as `charged`, since the unit stands with the value. */
function inWords(name: string): string {
  const bare = name.replace(/(Bytes|Ms)$/, '');
  return bare.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function textOf(name: string, value: unknown): string {
  if (typeof value === 'number' && name.endsWith('Bytes')) return formatBytes(value);
  if (typeof value === 'number' && name.endsWith('Ms')) return `${value.toFixed(1)} ms`;
  if (Array.isArray(value)) return value.length === 0 ? '-' : value.join(', ');
  return typeof value === 'string' ? value : JSON.stringify(value);
}
