import { access, readFile } from 'node:fs/promises';
import { dirname, extname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

import { InferkvError, messageOf } from '../base/errors.ts';
import { checkConfig, type InferkvConfig } from './schema.ts';
import { SETTINGS, variableOf, type Setting } from './settings.ts';

/** Where configuration comes from; what stands later in the list goes before what stands earlier. */
export interface ConfigSources {
  /** Where a configuration file is looked for. */
  readonly folder: string;
  /** The file to take instead of looking for one. */
  readonly file?: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Texts by the path of their setting. */
  readonly flags: ReadonlyMap<string, string>;
}

/** One value, and who gave it. */
export interface EffectiveSetting {
  readonly path: string;
  readonly value: unknown;
  /** `default`, the file's path, the variable's name, or `flag`. */
  readonly from: string;
}

/** A configuration, checked, and where each of its values came from. */
export interface LoadedConfig {
  readonly config: InferkvConfig;
  readonly file: string | undefined;
  readonly settings: readonly EffectiveSetting[];
}

type Tree = { [name: string]: unknown };

const FILE_NAMES = ['ts', 'mts', 'js', 'mjs', 'json'].map((ending) => `inferkv.config.${ending}`);
const PATHS_OF_FILES = ['repository', 'server.keysFile'];
const VARIABLE_PREFIX = 'INFERKV_';
// Of commands that ask a running server; no settings of this one.
const CLIENT_VARIABLES: ReadonlySet<string> = new Set(['INFERKV_URL', 'INFERKV_API_KEY']);

/**
 * The configuration by file, environment and flags.
 *
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`, whose message names the file, variable or flag and the path in it
 */
export async function loadConfig(sources: ConfigSources): Promise<LoadedConfig> {
  const file = await findFile(sources);
  const config: Tree = file === undefined ? {} : await readConfigFile(file);
  const origins = new Map<string, string>();
  for (const { path } of SETTINGS)
    if (file !== undefined && valueAt(config, path) !== undefined) origins.set(path, file);
  for (const [setting, text, variable] of fromEnvironment(sources.environment)) {
    put(config, setting.path, valueOf(setting, text, variable));
    origins.set(setting.path, variable);
  }
  for (const [path, text] of sources.flags) {
    const setting = SETTINGS.find((each) => each.path === path);
    if (setting === undefined)
      throw unknownSetting(
        path,
        'no setting',
        SETTINGS.map((each) => each.path),
      );
    put(config, path, valueOf(setting, text, path));
    origins.set(path, 'flag');
  }
  const checked = checkConfig(config, 'The configuration');
  const models = Object.keys(checked.models ?? {}).map((name) => ({
    path: `models.${name}`,
    value: checked.models?.[name],
    from: file ?? 'default',
  }));
  const settings = SETTINGS.map(({ path, fallback }) => ({
    path,
    value: valueAt(config, path) ?? fallback,
    from: origins.get(path) ?? 'default',
  }));
  return { config: checked, file, settings: [...settings, ...models] };
}

async function findFile({ folder, file }: ConfigSources): Promise<string | undefined> {
  if (file !== undefined) return resolve(folder, file);
  const there: string[] = [];
  for (const name of FILE_NAMES) {
    const path = join(folder, name);
    if (await exists(path)) there.push(path);
  }
  if (there.length <= 1) return there[0];
  throw invalid(`There are several configuration files: ${there.join(', ')}. Keep one, or choose it with --config.`);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function readConfigFile(path: string): Promise<Tree> {
  let content: unknown;
  try {
    content =
      extname(path) === '.json'
        ? JSON.parse(await readFile(path, 'utf8'))
        : ((await import(pathToFileURL(path).href)) as { default?: unknown }).default;
  } catch (error) {
    throw invalid(`The configuration file ${path} cannot be read: ${messageOf(error)}`, error);
  }
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw invalid(`The configuration file ${path} holds no settings; export an object as default.`);
  }
  const config = { ...checkConfig(content, `The configuration file ${path}`) } as Tree;
  // Paths in a file are meant from where the file lies, not from where the program was started.
  for (const each of PATHS_OF_FILES) {
    const value = valueAt(config, each);
    if (typeof value === 'string') put(config, each, resolve(dirname(path), value));
  }
  return config;
}

function fromEnvironment(environment: ConfigSources['environment']): readonly (readonly [Setting, string, string])[] {
  const byVariable = new Map(SETTINGS.map((setting) => [variableOf(setting), setting]));
  const given = Object.entries(environment).filter(
    ([name, text]) => name.startsWith(VARIABLE_PREFIX) && !CLIENT_VARIABLES.has(name) && text !== undefined,
  );
  return given.map(([name, text]) => {
    const setting = byVariable.get(name);
    if (setting === undefined) throw unknownSetting(name, 'no variable of inferkv', [...byVariable.keys()]);
    return [setting, text ?? '', name];
  });
}

function valueOf({ kind }: Setting, text: string, name: string): string | number | boolean {
  if (kind === 'text' || (kind === 'size' && Number.isNaN(Number(text)))) return text;
  if (kind === 'switch') {
    if (['1', 'true', 'yes', 'on'].includes(text.toLowerCase())) return true;
    if (['', '0', 'false', 'no', 'off'].includes(text.toLowerCase())) return false;
    throw invalid(`${name}: ${JSON.stringify(text)} is neither true nor false.`);
  }
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw invalid(`${name}: ${JSON.stringify(text)} is no number.`);
  return value;
}

function valueAt(config: Tree, path: string): unknown {
  return path.split('.').reduce<unknown>((at, name) => (at as Tree | undefined)?.[name], config);
}

function put(config: Tree, path: string, value: unknown): void {
  const names = path.split('.');
  const last = names.pop() ?? path;
  let at = config;
  for (const name of names) at = at[name] = { ...(at[name] as Tree | undefined) };
  at[last] = value;
}

function unknownSetting(name: string, what: string, known: readonly string[]): InferkvError {
  const [nearest] = known
    .map((each) => [each, distance(each.toLowerCase(), name.toLowerCase())] as const)
    .toSorted(([, a], [, b]) => a - b);
  return invalid(`${name} is ${what}; did you mean ${nearest?.[0]}? "inferkv config" lists them all.`);
}

/** Letters to change, add or leave out to make one word of another (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

function invalid(message: string, cause?: unknown): InferkvError {
  return new InferkvError('ERR_INFERKV_CONFIG_INVALID', message, { cause });
}
