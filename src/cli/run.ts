/** `inferkv run MODEL`: one request from files. */
import { writeFile } from 'node:fs/promises';

import { Command } from 'commander';

import { InferkvError } from '../base/errors.ts';
import { isStrings, type Tensor, type Tensors } from '../base/tensor.ts';
import { createInferenceCache } from '../compose.ts';
import type { SessionMetadata } from '../engines/engine.ts';
import { inputSpec } from '../engines/run-check.ts';
import type { CachedModel } from '../inference/cached-model.ts';
import type { Answer } from '../inference/result-cache.ts';
import { cacheOptionsOf } from './cache-options.ts';
import { configOf, print, printJson, withConfigFlags, withProgress, type CommonFlags } from './common.ts';
import { readInput } from './input-files.ts';
import { encodeNpy } from './npy.ts';

interface RunFlags extends CommonFlags {
  readonly input: readonly string[];
  readonly modelVersion?: string;
  readonly output?: readonly string[];
  readonly save?: readonly string[];
}

const SHOWN_ELEMENTS = 8;

export function runCommand(): Command {
  return withConfigFlags(new Command('run'))
    .argument('<model>', 'a model of the repository')
    .description('runs a model once on inputs from files')
    .requiredOption('--input <name=file...>', 'an input: .npy, .json, .raw or .bin, .png or .jpg')
    .option('--model-version <number>', 'a version of the model; the highest if left out')
    .option('--output <name...>', 'only these outputs')
    .option('--save <name=file...>', 'write an output to a file, .npy or .json')
    .action(run);
}

async function run(name: string, flags: RunFlags): Promise<void> {
  const { config } = await configOf(flags);
  await using cache = createInferenceCache(cacheOptionsOf(config));
  const model = cache.model(name, flags.modelVersion === undefined ? {} : { version: flags.modelVersion });
  const metadata = await withProgress(`Loading ${name}`, () => model.metadata());
  const inputs = await inputsFrom(flags.input, metadata, model);
  const options = flags.output === undefined ? {} : { outputs: flags.output };
  const answer = await withProgress(`Running ${name}`, () => model.run(inputs, options));
  await save(flags.save ?? [], answer.outputs);
  if (flags.json === true) printJson(forJson(name, answer, flags.save !== undefined));
  else print(forPeople(name, answer));
}

async function inputsFrom(given: readonly string[], metadata: SessionMetadata, model: CachedModel): Promise<Tensors> {
  const { settings } = await model.status();
  const read = given.map(async (each): Promise<readonly [string, Tensor]> => {
    const [name, path] = pair('--input', each);
    return [name, await readInput(inputSpec(name, metadata), path, settings.image)];
  });
  return Object.fromEntries(await Promise.all(read));
}

async function save(given: readonly string[], outputs: Tensors): Promise<void> {
  for (const each of given) {
    const [name, path] = pair('--save', each);
    const output = outputs[name];
    if (output === undefined) {
      const known = Object.keys(outputs).join(', ');
      throw new InferkvError(
        'ERR_INFERKV_OUTPUT_UNKNOWN',
        `There is no output "${name}" to save; there are: ${known}.`,
        { key: name },
      );
    }
    await writeFile(path, path.endsWith('.json') ? JSON.stringify(elementsOf(output)) : encodeNpy(name, output));
  }
}

function pair(flag: string, text: string): readonly [string, string] {
  const at = text.indexOf('=');
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `${flag} ${text}: write it as name=file.`);
}

function elementsOf({ data }: Tensor): readonly (string | number)[] {
  return isStrings(data) ? data : Array.from(data, Number);
}

function forJson(name: string, { outputs, cache }: Answer, saved: boolean): Readonly<Record<string, unknown>> {
  const shown = Object.entries(outputs).map(([output, tensor]) => {
    const { type, shape } = tensor;
    return [output, { type, shape, ...(!saved && { data: elementsOf(tensor) }) }];
  });
  return { model: name, cache, outputs: Object.fromEntries(shown) };
}

function forPeople(name: string, { outputs, cache }: Answer): string {
  const head = `${name} ${cache.version ?? ''}: ran in ${cache.costMs.toFixed(1)} ms`;
  const lines = Object.entries(outputs).map(([output, tensor]) => {
    const elements = elementsOf(tensor);
    const first = elements
      .slice(0, SHOWN_ELEMENTS)
      .map((each) => (typeof each === 'number' ? Number(each.toPrecision(5)) : each));
    const more = elements.length > SHOWN_ELEMENTS ? ' ...' : '';
    return `  ${output}  ${tensor.type} [${tensor.shape.join(', ')}]  ${first.join(' ')}${more}`;
  });
  return [head, ...lines].join('\n');
}
