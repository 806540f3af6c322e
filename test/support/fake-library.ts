import {
  createInferenceCache,
  type CachedModel,
  type InferenceCache,
  type InferenceCacheOptions,
} from '../../src/index.ts';
import { FakeClock } from '../../src/base/clock.ts';
import { FakeEngine } from './fake-engine.ts';
import { TempFolder } from './temp.ts';

/** A cache over the fake engine, on a clock and in a folder of its own. */
export class FakeLibrary implements AsyncDisposable {
  readonly clock: FakeClock = new FakeClock();
  readonly engine: FakeEngine = new FakeEngine(this.clock);
  readonly folder: TempFolder = new TempFolder();
  readonly cache: InferenceCache;

  constructor(options: InferenceCacheOptions = {}) {
    this.cache = createInferenceCache({
      repository: this.folder.path,
      engines: [this.engine],
      clock: this.clock,
      ...options,
    });
  }

  /** A model whose file has that many bytes, different for each `fill`. */
  model(name: string, bytes = 1000, fill = 'x'): CachedModel {
    this.folder.write(`${name}/1/model.fake`, fill.repeat(bytes));
    return this.cache.model(name);
  }

  /** Which of these models are in memory. */
  async resident(...models: CachedModel[]): Promise<readonly string[]> {
    const statuses = await Promise.all(models.map((model) => model.status()));
    return statuses.filter(({ resident }) => resident).map(({ name }) => name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cache.close();
    this.folder[Symbol.dispose]();
  }
}
