import { InferkvError, isInferkvError, messageOf } from '../base/errors.ts';
import type { Clock } from '../base/clock.ts';
import type { Artifact, Engine } from '../engines/engine.ts';
import { tell } from '../telemetry/channels.ts';
import type { ArtifactReader, FileSignature } from './artifacts.ts';
import { sameSignature } from './artifacts.ts';
import type { ModelSettings } from './model-settings.ts';
import type { ModelLocation, Repository } from './repository.ts';

/** One content of one model: immutable; a changed file makes a new one. */
export interface ModelVersion {
  readonly name: string;
  /** The version's number in the repository, or `1` for a single file. */
  readonly version: string;
  readonly engine: Engine;
  readonly artifact: Artifact;
  readonly settings: ModelSettings;
  /** Names it in the partition `models`. */
  readonly key: string;
}

interface Tracked {
  readonly name: string;
  readonly version: string | undefined;
  current: ModelVersion;
  signature: FileSignature;
  checkedAt: number;
  checking: Promise<void> | undefined;
  fault: unknown;
  /** A content that could not be loaded, so that it is not tried again every second. */
  refused: { readonly key: string; readonly error: InferkvError } | undefined;
}

/** What a catalog is made of. */
export interface CatalogOptions {
  readonly repository: Repository;
  readonly engines: readonly Engine[];
  readonly artifacts: ArtifactReader;
  /** Settings by model, over those of the repository. */
  readonly settings: Readonly<Record<string, ModelSettings>>;
  readonly clock: Clock;
  /** Milliseconds for which a model's file is taken as unchanged without looking. */
  readonly recheckMs: number;
}

/** Called when a model's content changed; makes `to` current by `setCurrent` when it can serve. */
export type ChangeListener = (from: ModelVersion, to: ModelVersion) => Promise<void>;

/**
 * Knows the present content of every model that was asked for. A model's file is looked at again, beside the request,
 * when `recheckMs` have gone by; only another content digest makes it another model.
 */
export class Catalog {
  readonly #options: CatalogOptions;
  readonly #tracked = new Map<string, Tracked>();
  readonly #finding = new Map<string, Promise<Tracked>>();
  readonly #listeners: ChangeListener[] = [];

  constructor(options: CatalogOptions) {
    this.#options = options;
  }

  onChange(listener: ChangeListener): void {
    this.#listeners.push(listener);
  }

  /** The present content of a model that was asked for before; `undefined` if it was not. Never waits. */
  known(name: string, version?: string): ModelVersion | undefined {
    const tracked = this.#tracked.get(idOf(name, version));
    if (tracked === undefined) return undefined;
    const { clock, recheckMs } = this.#options;
    if (clock.now() - tracked.checkedAt >= recheckMs) void this.#recheck(tracked);
    return tracked.current;
  }

  /** The present content of a model. */
  async find(name: string, version?: string): Promise<ModelVersion> {
    const known = this.known(name, version);
    if (known !== undefined) return known;
    const id = idOf(name, version);
    let finding = this.#finding.get(id);
    if (finding === undefined) {
      finding = this.#read(name, version).finally(() => this.#finding.delete(id));
      this.#finding.set(id, finding);
    }
    return (await finding).current;
  }

  /** Looks at a model's file now; what is wrong with it is thrown, and what is loaded goes on serving. */
  async refresh(name: string, version?: string): Promise<ModelVersion> {
    const tracked = this.#tracked.get(idOf(name, version));
    if (tracked === undefined) return this.find(name, version);
    // A check that is under way may have looked before the caller wrote.
    await tracked.checking;
    await this.#recheck(tracked);
    if (tracked.fault !== undefined) throw tracked.fault;
    return tracked.current;
  }

  /** What was wrong when a model's file was last looked at. */
  faultOf(name: string, version?: string): unknown {
    return this.#tracked.get(idOf(name, version))?.fault;
  }

  /** Makes a version the one that new requests get. */
  setCurrent(version: ModelVersion): void {
    for (const tracked of this.#tracked.values()) {
      if (tracked.name === version.name && (tracked.version ?? version.version) === version.version) {
        tracked.current = version;
      }
    }
  }

  async #read(name: string, version: string | undefined): Promise<Tracked> {
    const { clock } = this.#options;
    const location = await this.#locate(name, version);
    const checkedAt = clock.now();
    const { current, signature } = await this.#versionAt(location);
    const tracked: Tracked = {
      name,
      version,
      current,
      signature,
      checkedAt,
      checking: undefined,
      fault: undefined,
      refused: undefined,
    };
    this.#tracked.set(idOf(name, version), tracked);
    return tracked;
  }

  #locate(name: string, version: string | undefined): Promise<ModelLocation> {
    const { repository, settings } = this.#options;
    return repository.resolve(name, version, settings[name]?.engine);
  }

  async #versionAt(location: ModelLocation): Promise<{ current: ModelVersion; signature: FileSignature }> {
    const { artifacts, settings: overrides } = this.#options;
    const { name, version, path } = location;
    const settings = { ...location.settings, ...overrides[name] };
    const engine = this.#engineFor(location, settings);
    if (engine.runsCode === true) await this.#assertInside(location);
    const { artifact, signature } = await artifacts.read(path);
    const key = `${name}@${version}:${artifact.digest}`;
    return { current: { name, version, engine, artifact, settings, key }, signature };
  }

  /** A file that is a program is loaded only if whoever may write to the repository put it there. */
  async #assertInside({ name, path }: ModelLocation): Promise<void> {
    if (await this.#options.repository.contains(path)) return;
    throw new InferkvError(
      'ERR_INFERKV_ARTIFACT_INVALID',
      `The file of the model "${name}" is only linked to from the repository; files of this kind are programs and are loaded only if they lie in it: copy it there.`,
      { key: name },
    );
  }

  #engineFor({ name, path }: ModelLocation, settings: ModelSettings): Engine {
    const { engines } = this.#options;
    const engine = engines.find((each) =>
      settings.engine === undefined ? each.extensions.some((end) => path.endsWith(end)) : each.name === settings.engine,
    );
    if (engine !== undefined) return engine;
    throw new InferkvError(
      'ERR_INFERKV_ENGINE_UNKNOWN',
      `No engine runs the model "${name}" (${settings.engine ?? path}); there are: ${engines.map((each) => each.name).join(', ')}.`,
      { key: name },
    );
  }

  #recheck(tracked: Tracked): Promise<void> {
    tracked.checking ??= this.#check(tracked)
      .then(
        () => void (tracked.fault = undefined),
        (error: unknown) => {
          tracked.fault = error;
          tell('inferkv:model.check-failed', () => ({ model: tracked.name, error }));
        },
      )
      .finally(() => {
        tracked.checkedAt = this.#options.clock.now();
        tracked.checking = undefined;
      });
    return tracked.checking;
  }

  async #check(tracked: Tracked): Promise<void> {
    const { artifacts } = this.#options;
    const location = await this.#locate(tracked.name, tracked.version);
    const { current } = tracked;
    const samePlace = location.path === current.artifact.path;
    if (samePlace && sameSignature(await artifacts.signatureOf(location.path), tracked.signature)) return;
    const next = await this.#versionAt(location);
    if (next.current.key === tracked.refused?.key) throw tracked.refused.error;
    if (next.current.key !== current.key) await this.#announce(tracked, next.current);
    tracked.signature = next.signature;
  }

  async #announce(tracked: Tracked, to: ModelVersion): Promise<void> {
    const from = tracked.current;
    try {
      for (const listener of this.#listeners) await listener(from, to);
    } catch (cause) {
      const error = new InferkvError(
        'ERR_INFERKV_ARTIFACT_INVALID',
        `The model "${to.name}" changed and its new content cannot be loaded (${messageOf(cause)}); what was loaded goes on serving.`,
        { cause, key: to.name },
      );
      // Bytes that are no model will not become one; anything else (no room, a lost worker) is worth another try.
      if (isInferkvError(cause, 'ERR_INFERKV_ARTIFACT_INVALID')) tracked.refused = { key: to.key, error };
      throw error;
    }
  }
}

function idOf(name: string, version: string | undefined): string {
  return `${name}@${version ?? ''}`;
}
