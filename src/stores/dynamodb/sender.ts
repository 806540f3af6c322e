import type { DynamoDBClient } from '@aws-sdk/client-dynamodb';

import { abortError, cancellation, orAborted, throwIfAborted, whenAborted } from '../../base/cancellation.ts';
import type { Clock } from '../../base/clock.ts';
import { InferkvError, isInferkvError, messageOf } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import { loadSdk, type SdkModule } from './peer.ts';

/** How DynamoDB is reached. */
export interface SenderOptions {
  readonly table: string;
  readonly region?: string | undefined;
  readonly endpoint?: string | undefined;
  readonly sdkOptions?: Readonly<Record<string, unknown>> | undefined;
  /** One request and its answer. */
  readonly timeoutMs: number;
  /** For how long one request is tried anew while DynamoDB has too much to do. */
  readonly retryMs: number;
  readonly clock: Clock;
  readonly random: Random;
}

/** Makes a command with the classes of the SDK, which is there by then, and sends it. */
export type Ask<T> = (
  client: DynamoDBClient,
  sdk: SdkModule,
  options: { readonly abortSignal: AbortSignal },
) => Promise<T>;

// What says "not now": nothing was done, and the same request may be sent again.
const BUSY = new Set([
  'ProvisionedThroughputExceededException',
  'ThrottlingException',
  'ThrottlingError',
  'RequestLimitExceeded',
  'TransactionInProgressException',
  'InternalServerError',
  'ServiceUnavailable',
  'ServiceUnavailableException',
]);
const FIRST_WAIT_MS = 25;
const LONGEST_WAIT_MS = 2000;

/**
 * Sends requests to DynamoDB: each within a time, and again after a while if there is too much to do. The SDK's own retries
 * are off, as it waits by a clock and a randomness of its own, and knows nothing of the caller's deadline.
 *
 * Source: full jitter, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export class Sender {
  readonly #options: SenderOptions;
  #loading: Promise<{ readonly sdk: SdkModule; readonly client: DynamoDBClient }> | undefined;

  constructor(options: SenderOptions) {
    this.#options = options;
  }

  /** The answer. Rejected with `ERR_INFERKV_STORE_FAILED` if there is none. */
  async send<T>(signal: AbortSignal | undefined, ask: Ask<T>): Promise<T> {
    const retries = this.retries(signal);
    for (;;) {
      try {
        return await this.#once(signal, ask);
      } catch (error) {
        if (!BUSY.has(nameOf(error))) throw this.#explained(error, signal);
        await retries.wait(error);
      }
    }
  }

  /** The answer, or `undefined` if the condition of the request does not hold. */
  async sendIf<T>(signal: AbortSignal | undefined, ask: Ask<T>): Promise<T | undefined> {
    try {
      return await this.send(signal, ask);
    } catch (error) {
      if (isInferkvError(error) && nameOf(error.cause) === 'ConditionalCheckFailedException') return undefined;
      throw error;
    }
  }

  /** Waits, longer each time, until it has been long enough. */
  retries(signal: AbortSignal | undefined): { wait(cause?: unknown): Promise<void> } {
    const { clock, random, retryMs } = this.#options;
    const until = clock.now() + retryMs;
    let limitMs = FIRST_WAIT_MS;
    return {
      wait: async (cause) => {
        const delayMs = 1 + random.next() * limitMs;
        if (clock.now() + delayMs > until) {
          throw this.#failed(`has had too much to do for ${retryMs} ms`, 'give the table more capacity', cause);
        }
        limitMs = Math.min(LONGEST_WAIT_MS, 2 * limitMs);
        await pause(delayMs, clock, signal);
      },
    };
  }

  async close(): Promise<void> {
    const loaded = await this.#loading?.catch(() => undefined);
    loaded?.client.destroy();
  }

  async #once<T>(signal: AbortSignal | undefined, ask: Ask<T>): Promise<T> {
    throwIfAborted(signal);
    const { clock, timeoutMs } = this.#options;
    const { sdk, client } = await orAborted(this.#load(), signal);
    const bounded = cancellation(signal, timeoutMs, clock);
    const abortSignal = bounded.signal as AbortSignal;
    try {
      return await orAborted(ask(client, sdk, { abortSignal }), abortSignal);
    } catch (error) {
      if (signal?.aborted !== true && abortSignal.aborted) {
        throw this.#failed(`did not answer within ${timeoutMs} ms`, 'check that it can be reached', error);
      }
      throw error;
    } finally {
      bounded.dispose();
    }
  }

  #load(): Promise<{ readonly sdk: SdkModule; readonly client: DynamoDBClient }> {
    const { region, endpoint, sdkOptions } = this.#options;
    this.#loading ??= loadSdk()
      .then((sdk) => {
        const client = new sdk.DynamoDBClient({
          ...(region === undefined ? {} : { region }),
          ...(endpoint === undefined ? {} : { endpoint }),
          ...sdkOptions,
          maxAttempts: 1,
        });
        return { sdk, client };
      })
      .catch((error: unknown) => {
        // The next call tries anew.
        this.#loading = undefined;
        throw error;
      });
    return this.#loading;
  }

  #explained(error: unknown, signal: AbortSignal | undefined): InferkvError {
    if (signal?.aborted === true) return abortError(signal);
    if (isInferkvError(error)) return error;
    if (nameOf(error) === 'ResourceNotFoundException') {
      return this.#failed('has no such table', 'make it with createDynamoDbTable', error);
    }
    const text = messageOf(error) || nameOf(error);
    return this.#failed(
      `did not do what it was asked for: ${text}`,
      'check endpoint, region, credentials and table',
      error,
    );
  }

  #failed(what: string, advice: string, cause: unknown): InferkvError {
    const { table } = this.#options;
    return new InferkvError('ERR_INFERKV_STORE_FAILED', `DynamoDB (table ${table}) ${what}; ${advice}.`, {
      cause,
      key: table,
    });
  }
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : '';
}

/** A while by the clock, or until the signal ends. */
export async function pause(delayMs: number, clock: Clock, signal: AbortSignal | undefined): Promise<void> {
  throwIfAborted(signal);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // The clock's timers let the process end; somebody waits for this one.
  const awake = setInterval(() => undefined, 2 ** 30);
  const timer = clock.after(delayMs, resolve);
  const stop = whenAborted(signal, reject);
  try {
    await promise;
  } finally {
    clearInterval(awake);
    timer.cancel();
    stop();
  }
}
