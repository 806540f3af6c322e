import { InferkvError } from '../base/errors.ts';
import type { CachedModel } from '../inference/cached-model.ts';
import type { ModelListing } from '../models/repository.ts';

/** What a server needs of an inference cache. */
export interface InferenceHost {
  model(name: string, options?: { readonly version?: string }): CachedModel;
  list(): Promise<readonly ModelListing[]>;
}

const MAX_HANDLES = 10_000;

/** The models of a cache as a server offers them: one that was unloaded by request stays so until it is loaded by request. */
export class ServedModels {
  readonly #host: InferenceHost;
  readonly #unloaded = new Set<string>();
  readonly #handles = new Map<string, CachedModel>();

  constructor(host: InferenceHost) {
    this.#host = host;
  }

  /**
   * A model that may be asked.
   *
   * @throws InferkvError `ERR_INFERKV_MODEL_UNLOADED`
   */
  serving(name: string, version?: string): CachedModel {
    if (this.#unloaded.has(name)) {
      throw new InferkvError(
        'ERR_INFERKV_MODEL_UNLOADED',
        `The model "${name}" was unloaded by request; load it by POST /v2/repository/models/${name}/load.`,
        { key: name },
      );
    }
    return this.handle(name, version);
  }

  /** Whether a model was unloaded by request. */
  isUnloaded(name: string): boolean {
    return this.#unloaded.has(name);
  }

  list(): Promise<readonly ModelListing[]> {
    return this.#host.list();
  }

  /** A handle remembers what its model's results are named by, so it is worth keeping. */
  handle(name: string, version?: string): CachedModel {
    const id = `${name}@${version ?? ''}`;
    let handle = this.#handles.get(id);
    if (handle === undefined) {
      handle = this.#host.model(name, version === undefined ? {} : { version });
      // Names come from outside; whatever they are, they must not pile up.
      if (this.#handles.size >= MAX_HANDLES) this.#handles.clear();
      this.#handles.set(id, handle);
    }
    return handle;
  }

  /** Loads a model, anew if its file changed, and lets it be asked. */
  async load(name: string): Promise<void> {
    const model = this.handle(name);
    await model.refresh();
    await model.load();
    this.#unloaded.delete(name);
  }

  /** Lets a model go, in all its versions, and has it refused from now on; settles when its memory is free. */
  async unload(name: string): Promise<void> {
    // What does not exist cannot be unloaded, and is not remembered.
    await this.handle(name).status();
    this.#unloaded.add(name);
    const { versions = [] } = (await this.#host.list()).find((listing) => listing.name === name) ?? {};
    const resident = [undefined, ...versions].map((version) => this.handle(name, version));
    await Promise.all(resident.filter((model) => model.peek().resident).map((model) => model.unload()));
  }
}
