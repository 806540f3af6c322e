import { orAborted } from '../../base/cancellation.ts';
import { InferkvError } from '../../base/errors.ts';
import { createClient, destroyClient, loadLibrary, type Purpose, type RedisClient } from './client.ts';
import { storeError } from './faults.ts';
import type { RedisSettings } from './options.ts';

const FIRST_BACKOFF_MS = 50;
const MAX_BACKOFF_MS = 2000;

/**
 * The way to the server, opened when it is needed, and again when it was lost. After an attempt that failed, calls fail at
 * once until the next is due: twice as long each time, up to two seconds. Nothing runs while nobody calls.
 */
export class Connection {
  readonly #settings: RedisSettings;
  readonly #purpose: Purpose;
  #current: RedisClient | undefined;
  #attempt: Promise<RedisClient> | undefined;
  #failures = 0;
  #retryAtMs = Number.NEGATIVE_INFINITY;
  #lastError: InferkvError | undefined;
  #isClosed = false;
  readonly #closing = new AbortController();

  constructor(settings: RedisSettings, purpose: Purpose) {
    this.#settings = settings;
    this.#purpose = purpose;
  }

  /** The client, if it is ready now. */
  get current(): RedisClient | undefined {
    return this.#current;
  }

  /** Milliseconds until the next attempt may be made. */
  get retryInMs(): number {
    return Math.max(0, this.#retryAtMs - this.#settings.clock.now());
  }

  /**
   * The client when it is ready; one attempt for all who wait.
   *
   * @throws InferkvError `ERR_INFERKV_STORE_FAILED`, `ERR_INFERKV_CLOSED`, or what the signal stands for
   */
  async open(signal?: AbortSignal): Promise<RedisClient> {
    if (this.#isClosed) throw closed(this.#settings.name);
    if (this.#current !== undefined) return this.#current;
    if (this.#attempt === undefined && this.#lastError !== undefined && this.retryInMs > 0) {
      const { code, message } = this.#lastError;
      throw new InferkvError(code, message, { cause: this.#lastError });
    }
    this.#attempt ??= this.#connect().finally(() => {
      this.#attempt = undefined;
    });
    return orAborted(this.#attempt, signal);
  }

  /** Gives up a client that cannot be used any more; the next call opens another. */
  drop(client: RedisClient): void {
    if (this.#current === client) this.#current = undefined;
    destroyClient(client);
  }

  close(): void {
    this.#isClosed = true;
    this.#closing.abort(closed(this.#settings.name));
    const client = this.#current;
    this.#current = undefined;
    if (client !== undefined) destroyClient(client);
  }

  async #connect(): Promise<RedisClient> {
    const library = await loadLibrary();
    this.#closing.signal.throwIfAborted();
    const client = createClient(library, this.#settings, this.#purpose);
    try {
      await this.#ready(client);
    } catch (error) {
      destroyClient(client);
      if (this.#isClosed) throw closed(this.#settings.name);
      throw this.#failed(error);
    }
    this.#failures = 0;
    this.#lastError = undefined;
    this.#current = client;
    const lost = (): void => {
      if (this.#current === client) this.#current = undefined;
    };
    client.on('close', lost);
    client.on('end', lost);
    // After answers to nothing, every answer would go to the wrong call.
    client.on('error', (error) => {
      if (/queue state/.test(String(error))) this.drop(client);
    });
    return client;
  }

  #ready(client: RedisClient): Promise<void> {
    const { clock, connectTimeoutMs } = this.#settings;
    return new Promise((resolve, reject) => {
      let last: unknown;
      const timer = clock.after(connectTimeoutMs, () =>
        reject(last ?? new Error(`the connection was not ready within ${connectTimeoutMs} ms`)),
      );
      const fail = (error: unknown): void => {
        timer.cancel();
        reject(error);
      };
      this.#closing.signal.addEventListener('abort', () => fail(this.#closing.signal.reason), { once: true });
      // What one node of a Cluster says is only known from here.
      client.on('node error', (error) => {
        last = error;
      });
      // An attempt with an error has failed: ioredis would go on in another database if that of `db` cannot be had.
      client.on('error', (error) => fail(last ?? error));
      client.once('end', () => fail(last ?? new Error('Connection is closed.')));
      client.once('ready', () => {
        timer.cancel();
        resolve();
      });
      client.connect().catch((error: unknown) => {
        last ??= error;
      });
    });
  }

  #failed(error: unknown): InferkvError {
    const { clock, random, where } = this.#settings;
    const backoffMs = Math.min(MAX_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(this.#failures, 10));
    this.#failures++;
    // Spread, so that not everybody comes back at the same moment.
    this.#retryAtMs = clock.now() + backoffMs * (0.5 + random.next() / 2);
    this.#lastError = error instanceof InferkvError ? error : storeError(where, error);
    return this.#lastError;
  }
}

/** What calls get after `close`. */
export function closed(name: string): InferkvError {
  return new InferkvError('ERR_INFERKV_CLOSED', `The store ${name} is closed; open another one.`);
}
