import { orAborted, throwIfAborted } from '../base/cancellation.ts';
import { InferkvError } from '../base/errors.ts';

/** The calls of a store that are under way: each ends with its signal, and closing waits for them. */
export class OpenCalls {
  readonly #store: string;
  readonly #open = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  constructor(store: string) {
    this.#store = store;
  }

  /** Runs a call, if the store is open and the signal has not ended; what throws becomes a rejection. */
  async run<T>(signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) {
      throw new InferkvError('ERR_INFERKV_CLOSED', `The store ${this.#store} is closed; open another one.`);
    }
    throwIfAborted(signal);
    const running = call();
    this.#open.add(running);
    const done = (): void => void this.#open.delete(running);
    running.catch(() => undefined).finally(done);
    return orAborted(running, signal);
  }

  /** Lets no more in, waits for those under way, then lets go, once. */
  close(release: () => void | Promise<void>): Promise<void> {
    this.#closing ??= Promise.allSettled(this.#open).then(release);
    return this.#closing;
  }
}
