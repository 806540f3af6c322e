/** `inferkv config`: the effective configuration, and where each value came from. */
import { Command } from 'commander';

import { configOf, print, printJson, table, withConfigFlags, type CommonFlags } from './common.ts';

export function configCommand(): Command {
  return withConfigFlags(new Command('config'))
    .description('prints every setting with its value and where that came from')
    .action(async (flags: CommonFlags) => {
      const { file, settings } = await configOf(flags);
      if (flags.json === true) {
        printJson({ file: file ?? null, settings: settings.map((each) => ({ ...each, value: each.value ?? null })) });
        return;
      }
      print(file === undefined ? 'No configuration file.\n' : `${file}\n`);
      print(table(settings.map(({ path, value, from }) => [path, shown(value), from])));
    });
}

function shown(value: unknown): string {
  if (value === undefined) return '-';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
