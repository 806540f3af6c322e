import type * as DynamoSdk from '@aws-sdk/client-dynamodb';
import type { AttributeValue, DynamoDBClient, DynamoDBClientConfig } from '@aws-sdk/client-dynamodb';

import { abortError, orAborted, throwIfAborted, whenAborted } from '../../base/cancellation.ts';
import { systemClock, type Clock } from '../../base/clock.ts';
import { InferkvError, isInferkvError, messageOf } from '../../base/errors.ts';
import { createRandom, type Random } from '../../base/random.ts';

/** An item: its attributes by name. */
export type Item = Record<string, AttributeValue>;

/** Where DynamoDB is. Credentials, and a region that is not given, are found as the AWS SDK does it. */
export interface DynamoConnection {
  readonly region?: string | undefined;
  /** For services that speak DynamoDB's protocol; AWS itself if left out. */
  readonly endpoint?: string | undefined;
  /** Further settings of the SDK's client: credentials, a request handler. */
  readonly client?: DynamoDBClientConfig | undefined;
  readonly clock?: Clock | undefined;
  readonly random?: Random | undefined;
}

/** The SDK, as it is loaded. */
type Sdk = typeof DynamoSdk;

const THROTTLED: ReadonlySet<string> = new Set([
  'ProvisionedThroughputExceededException',
  'ThrottlingException',
  'Throttling',
  'RequestLimitExceeded',
  'TooManyRequestsException',
  'LimitExceededException',
  'TransactionConflictException',
  'InternalServerError',
  'ServiceUnavailable',
]);
const FIRST_PAUSE_MS = 20;
const MAX_PAUSE_MS = 2000;
// Without a signal nobody says when to give up.
const MAX_TRIES = 10;
const REQUEST_TIMEOUT_MS = 10_000;

/** Sends commands; what is throttled is sent again, after pauses that grow and differ, as long as the caller waits. */
export class DynamoClient {
  readonly #connection: DynamoConnection;
  readonly #clock: Clock;
  readonly #random: Random;
  #made: Promise<{ readonly sdk: Sdk; readonly client: DynamoDBClient }> | undefined;
  #closed = false;

  constructor(connection: DynamoConnection) {
    this.#connection = connection;
    this.#clock = connection.clock ?? systemClock;
    this.#random = connection.random ?? createRandom(process.pid);
  }

  /** Sends what `command` makes of the SDK. */
  async send<Output>(signal: AbortSignal | undefined, command: (sdk: Sdk) => object): Promise<Output> {
    if (this.#closed) throw new InferkvError('ERR_INFERKV_CLOSED', 'The DynamoDB store is closed; make a new one.');
    throwIfAborted(signal);
    this.#made ??= this.#make();
    try {
      const { sdk, client } = await this.#made;
      for (let tries = 1; ; tries++) {
        try {
          const sent = client.send(command(sdk) as never, signal === undefined ? {} : { abortSignal: signal });
          return (await orAborted(sent as Promise<unknown>, signal)) as Output;
        } catch (error) {
          if (!THROTTLED.has((error as Error).name) || (signal === undefined && tries >= MAX_TRIES)) throw error;
          await this.pause(tries, signal);
        }
      }
    } catch (error) {
      throw this.#explained(error, signal);
    }
  }

  /** Waits before something is tried again; the more often it was, the longer. */
  pause(tries: number, signal: AbortSignal | undefined): Promise<void> {
    const longest = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (tries - 1));
    return new Promise((resolve, reject) => {
      const stop = whenAborted(signal, (error) => {
        timer.cancel();
        reject(error);
      });
      const timer = this.#clock.after(longest * this.#random.next(), () => {
        stop();
        resolve();
      });
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    const made = await this.#made?.catch(() => undefined);
    made?.client.destroy();
  }

  async #make(): Promise<{ readonly sdk: Sdk; readonly client: DynamoDBClient }> {
    let sdk: Sdk;
    try {
      sdk = await import('@aws-sdk/client-dynamodb');
    } catch (error) {
      this.#made = undefined;
      throw new InferkvError(
        'ERR_INFERKV_PEER_MISSING',
        'DynamoDB is reached by the AWS SDK, which is not installed: npm install @aws-sdk/client-dynamodb',
        { cause: error },
      );
    }
    const { region, endpoint, client } = this.#connection;
    // Throttling is handled here, within the caller's deadline.
    const config: DynamoDBClientConfig = {
      maxAttempts: 1,
      requestHandler: { requestTimeout: REQUEST_TIMEOUT_MS, connectionTimeout: REQUEST_TIMEOUT_MS },
      ...(region !== undefined && { region }),
      ...(endpoint !== undefined && { endpoint }),
      ...client,
    };
    return { sdk, client: new sdk.DynamoDBClient(config) };
  }

  #explained(error: unknown, signal: AbortSignal | undefined): Error {
    if (signal?.aborted === true) return abortError(signal);
    if (isInferkvError(error) || isConditionFailed(error)) return error as Error;
    const { name } = error as Error;
    const advice =
      name === 'ResourceNotFoundException'
        ? 'The table is not there: createDynamoTable makes it.'
        : name === 'CredentialsProviderError' || name.startsWith('Unrecognized') || name === 'AccessDeniedException'
          ? 'Look at the credentials that the AWS SDK finds, and what they allow.'
          : 'The next call tries anew.';
    return new InferkvError(
      'ERR_INFERKV_STORE_FAILED',
      `DynamoDB could not be asked: ${name}: ${messageOf(error)}. ${advice}`,
      {
        cause: error,
        key: 'dynamodb',
      },
    );
  }
}

/** Whether a write was not made as what it was made for did not hold. */
export function isConditionFailed(error: unknown): boolean {
  return error instanceof Error && error.name === 'ConditionalCheckFailedException';
}
