import { abortError } from '../base/cancellation.ts';
import { InferkvError } from '../base/errors.ts';
import { SingleFlight, type Landing } from './single-flight.ts';

/** A caller that waits for a value and could load it, in this thread or in another one. */
export interface Loader<T> {
  /** Ends this caller's wait. */
  readonly signal: AbortSignal | undefined;
  /** Loads the value; `undefined` if the thread that was to do it has ended meanwhile. */
  load(signal: AbortSignal): Promise<(() => Landing<T>) | undefined>;
}

/**
 * One load for all callers of all threads that ask for the same key at the same time; the owner of the partition keeps the
 * list. The first caller loads; if its thread ends before it is done, the next one does. A load that fails is everybody's failure.
 */
export class SharedFlights<T> {
  readonly #flights = new SingleFlight<T>();
  /** Those who wait for each load that is under way, in their order. */
  readonly #loaders = new Map<string, Loader<T>[]>();

  isUnderWay(key: string): boolean {
    return this.#flights.isUnderWay(key);
  }

  /** Joins the load of `key` that is under way, or `undefined` if there is none. */
  join(key: string, loader: Loader<T>): Promise<T> | undefined {
    const joined = this.#flights.join(key, loader.signal);
    if (joined !== undefined) this.#loaders.get(key)?.push(loader);
    return joined;
  }

  /** Starts a load of `key`; later callers join this one. */
  start(key: string, loader: Loader<T>): Promise<T> {
    if (loader.signal?.aborted === true) return Promise.reject(abortError(loader.signal));
    const loaders = [loader];
    this.#loaders.set(key, loaders);
    return this.#flights.start(key, (signal) => this.#fly(key, loaders, signal), loader.signal);
  }

  async #fly(key: string, loaders: Loader<T>[], signal: AbortSignal): Promise<() => Landing<T>> {
    const end = (): void => {
      if (this.#loaders.get(key) === loaders) this.#loaders.delete(key);
    };
    try {
      for (let next = loaders.shift(); next !== undefined; next = loaders.shift()) {
        if (next.signal?.aborted === true) continue;
        const land = await next.load(signal);
        if (land === undefined) continue;
        return () => {
          end();
          return land();
        };
      }
    } catch (error) {
      end();
      throw error;
    }
    end();
    throw new InferkvError(
      'ERR_INFERKV_WORKER_LOST',
      'Every thread that could have loaded the value has ended; ask again.',
      { key },
    );
  }
}
