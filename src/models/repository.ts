import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve, sep } from 'node:path';
import { inspect } from 'node:util';

import { InferkvError, messageOf } from '../base/errors.ts';
import { modelSettingsSchema, type ModelSettings } from './model-settings.ts';

/** A model in the repository. */
export interface ModelListing {
  readonly name: string;
  /** Its versions, the default (highest) one last. */
  readonly versions: readonly string[];
}

/** Where one version of a model lies. */
export interface ModelLocation {
  readonly name: string;
  readonly version: string;
  /** The model file, absolute. */
  readonly path: string;
  /** What `inferkv.json` beside it says. */
  readonly settings: ModelSettings;
}

/**
 * Models on disk. Every call reads the folder afresh, so models and versions appear and go without a restart.
 *
 * ```
 *   <root>/<name>/<version>/model.onnx     versions are whole numbers from 1; the highest is the default (or model.pt)
 *   <root>/<name>/inferkv.json             settings, optional
 *   <root>/<name>.onnx                     a single file is version 1
 *   <root>                                 or the root itself is a model file
 * ```
 */
export interface Repository {
  /** @throws InferkvError `ERR_INFERKV_REPOSITORY_INVALID` if the folder cannot be read */
  list(): Promise<readonly ModelListing[]>;
  /**
   * @param engine whose file it is where several lie there, over what the model's own settings say
   * @throws InferkvError `ERR_INFERKV_MODEL_NAME_INVALID`, `ERR_INFERKV_MODEL_NOT_FOUND`, `ERR_INFERKV_CONFIG_INVALID`
   */
  resolve(name: string, version?: string, engine?: string): Promise<ModelLocation>;
  /** Whether a file really lies in the repository, and is not only linked to from there. */
  contains(path: string): Promise<boolean>;
}

/** Where a repository lies, and what counts as a model in it. */
export interface RepositoryOptions {
  readonly root: string;
  /** What the engines take; where files for several lie in one place, the first that is named here is meant. */
  readonly formats: readonly ModelFormat[];
}

/** Model files of one engine. */
export interface ModelFormat {
  /** The engine's name. */
  readonly name: string;
  /** Endings of its model files, with the dot. */
  readonly extensions: readonly string[];
}

const SETTINGS_FILE = 'inferkv.json';
const MODEL_FILE = 'model';
const SINGLE_FILE_VERSION = '1';
const MAX_NAMES_SHOWN = 10;

// No separators, no leading dot: whatever passes is one name in a folder, on every system.
const NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/;
const VERSION = /^[1-9]\d{0,17}$/;

export function openRepository(options: RepositoryOptions): Repository {
  return new FolderRepository(resolve(options.root), options.formats);
}

class FolderRepository implements Repository {
  readonly #root: string;
  readonly #formats: readonly ModelFormat[];
  readonly #extensions: readonly string[];

  constructor(root: string, formats: readonly ModelFormat[]) {
    this.#root = root;
    this.#formats = formats;
    this.#extensions = formats.flatMap(({ extensions }) => extensions);
  }

  async list(): Promise<readonly ModelListing[]> {
    if (await isFile(this.#root)) return [{ name: this.#stem(this.#root), versions: [SINGLE_FILE_VERSION] }];
    const found = new Map<string, readonly string[]>();
    for (const entry of await this.#entries()) {
      const name = this.#isModelFile(entry) ? this.#stem(entry) : entry;
      if (!NAME.test(name) || found.has(name)) continue;
      const versions = [...(await this.#paths(name)).keys()];
      if (versions.length > 0) found.set(name, versions);
    }
    return [...found].map(([name, versions]) => ({ name, versions })).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  async resolve(name: string, version?: string, engine?: string): Promise<ModelLocation> {
    if (typeof name !== 'string' || !NAME.test(name)) {
      throw new InferkvError(
        'ERR_INFERKV_MODEL_NAME_INVALID',
        `${inspect(name).slice(0, 160)} is no model name: use 1 to 128 letters, digits, ".", "_" or "-", with no dot in front.`,
        { key: name },
      );
    }
    const settings = await this.#settings(name);
    const paths = await this.#paths(name, engine ?? settings.engine);
    const chosen = version ?? [...paths.keys()].at(-1);
    const path = chosen === undefined ? undefined : paths.get(chosen);
    if (chosen === undefined || path === undefined) throw await this.#notFound(name, version, [...paths.keys()]);
    return { name, version: chosen, path, settings };
  }

  async contains(path: string): Promise<boolean> {
    const [root, target] = await Promise.all([realpath(this.#root), realpath(path)]);
    return target === root || target.startsWith(root + sep);
  }

  /** Files of a model by version, in ascending order: those of that engine, or of the first whose file is there. */
  async #paths(name: string, engine?: string): Promise<ReadonlyMap<string, string>> {
    if (await isFile(this.#root)) {
      return new Map(this.#stem(this.#root) === name ? [[SINGLE_FILE_VERSION, this.#root]] : []);
    }
    const paths = new Map<string, string>();
    // The first is to win, so it is set last.
    const endings = (this.#formats.find((each) => each.name === engine)?.extensions ?? this.#extensions).toReversed();
    for (const extension of endings) {
      const single = join(this.#root, name + extension);
      if (await isFile(single)) paths.set(SINGLE_FILE_VERSION, single);
    }
    const versions = (await namesIn(join(this.#root, name))).filter((entry) => VERSION.test(entry));
    for (const version of versions.toSorted((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1))) {
      for (const extension of endings) {
        const path = join(this.#root, name, version, MODEL_FILE + extension);
        if (await isFile(path)) paths.set(version, path);
      }
    }
    return paths;
  }

  async #settings(name: string): Promise<ModelSettings> {
    const path = join((await isFile(this.#root)) ? dirname(this.#root) : join(this.#root, name), SETTINGS_FILE);
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch {
      return {};
    }
    return parseSettings(path, text);
  }

  async #entries(): Promise<readonly string[]> {
    try {
      return await readdir(this.#root);
    } catch (error) {
      throw new InferkvError(
        'ERR_INFERKV_REPOSITORY_INVALID',
        `The model repository ${this.#root} cannot be read: ${messageOf(error)}`,
        { cause: error, key: this.#root },
      );
    }
  }

  async #notFound(name: string, version: string | undefined, versions: readonly string[]): Promise<InferkvError> {
    const details = { key: name };
    if (versions.length > 0) {
      const message = `The model "${name}" has no version ${JSON.stringify(version)}; there are: ${versions.join(', ')}.`;
      return new InferkvError('ERR_INFERKV_MODEL_NOT_FOUND', message, details);
    }
    const names = (await this.list()).map((listing) => listing.name);
    const layout = join(this.#root, name, '1', MODEL_FILE + (this.#extensions[0] ?? ''));
    const there =
      names.length === 0
        ? `The repository ${this.#root} holds no model`
        : `There are: ${names.slice(0, MAX_NAMES_SHOWN).join(', ')}${names.length > MAX_NAMES_SHOWN ? ', ...' : ''}`;
    const message = `There is no model "${name}". ${there}; put its file at ${layout}.`;
    return new InferkvError('ERR_INFERKV_MODEL_NOT_FOUND', message, details);
  }

  #isModelFile(entry: string): boolean {
    return this.#extensions.includes(extname(entry));
  }

  #stem(path: string): string {
    return basename(path, extname(path));
  }
}

function parseSettings(path: string, text: string): ModelSettings {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch (error) {
    throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `${path} is no JSON: ${messageOf(error)}`, {
      cause: error,
      key: path,
    });
  }
  const checked = modelSettingsSchema.safeParse(content);
  if (checked.success) return checked.data;
  const faults = checked.error.issues.map((issue) => `${issue.path.join('.') || 'settings'}: ${issue.message}`);
  throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `${path} is not valid. ${faults.join('; ')}`, {
    cause: checked.error,
    key: path,
  });
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch {
    return [];
  }
}
