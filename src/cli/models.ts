/** `inferkv models`: what the repository holds. */
import { Command } from 'commander';

import { formatBytes } from '../base/bytes.ts';
import { messageOf } from '../base/errors.ts';
import { createInferenceCache } from '../compose.ts';
import type { ModelStatus, UnreadableModel } from '../inference/cached-model.ts';
import { cacheOptionsOf } from './cache-options.ts';
import { configOf, print, printJson, table, withConfigFlags, withProgress, type CommonFlags } from './common.ts';

export function modelsCommand(): Command {
  return withConfigFlags(new Command('models'))
    .description('lists the models of the repository with their versions, engines and settings')
    .action(async (flags: CommonFlags) => {
      const { config } = await configOf(flags);
      await using cache = createInferenceCache(cacheOptionsOf(config));
      const models = await withProgress('Reading the models', () => cache.models());
      if (flags.json === true) {
        printJson(models.map(forJson));
        return;
      }
      if (models.length === 0) {
        print(`No models in ${config.repository ?? 'models'}; put one at <name>/1/model.onnx there.`);
        return;
      }
      print(table([['model', 'version', 'engine', 'size', 'content', 'settings'], ...models.map(row)]));
    });
}

function row(model: ModelStatus | UnreadableModel): readonly string[] {
  const { name, version } = model;
  if (!('digest' in model)) return [name, version, '-', '-', '-', messageOf(model.fault)];
  const settings = Object.keys(model.settings).length === 0 ? '' : JSON.stringify(model.settings);
  return [name, version, model.engine, formatBytes(model.fileBytes), model.digest.slice(0, 12), settings];
}

function forJson({ fault, ...model }: ModelStatus | UnreadableModel): Readonly<Record<string, unknown>> {
  return { ...model, ...(fault !== undefined && { fault: messageOf(fault) }) };
}
