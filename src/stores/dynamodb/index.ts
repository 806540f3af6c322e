import { randomBytes, randomInt } from 'node:crypto';

import { systemClock, systemWallClock, type Clock, type WallClock } from '../../base/clock.ts';
import { InferkvError } from '../../base/errors.ts';
import { createRandom, type Random } from '../../base/random.ts';
import { FreshNumbers } from '../fresh-numbers.ts';
import { OpenCalls } from '../open-calls.ts';
import type { CallOptions, Store } from '../store.ts';
import { createEpochs, createGrants } from './counters.ts';
import { Sender } from './sender.ts';
import { DynamoDbStore } from './store.ts';
import { makeTable, type TableReport } from './table.ts';

export type { TableReport } from './table.ts';

/** Which table, and how it is reached. Credentials are the SDK's own business: environment, profile, role. */
export interface DynamoDbTableOptions {
  readonly table: string;
  /** Where it is; what the SDK finds in environment or profile if left out. */
  readonly region?: string | undefined;
  /** A server that speaks as DynamoDB does; Amazon's own if left out. */
  readonly endpoint?: string | undefined;
  /** Handed on to the SDK's client: `credentials`, `requestHandler`... Its retries stay off. */
  readonly sdkOptions?: Readonly<Record<string, unknown>> | undefined;
  /** How long one request may take; 5,000 ms if left out. */
  readonly timeoutMs?: number | undefined;
  /** For how long a request that DynamoDB throttles is tried anew, within the signal; 10,000 ms if left out. */
  readonly retryMs?: number | undefined;
  readonly clock?: Clock | undefined;
  /** Spreads the retries of many. */
  readonly random?: Random | undefined;
}

/** Options of a store in DynamoDB: Amazon's database, no relation of TorchDynamo or NVIDIA Dynamo. */
export interface DynamoDbStoreOptions extends DynamoDbTableOptions {
  /** What all names begin with: 1 to 64 printable ASCII characters. `inferkv:` if left out. */
  readonly prefix?: string | undefined;
  /** The longest item; DynamoDB's own limit, 400 KiB, if left out. What is longer is cut into chunks. */
  readonly maxItemBytes?: number | undefined;
  /** The longest record; 64 MiB if left out. */
  readonly maxRecordBytes?: number | undefined;
  /** Reads see every write that ended before them, at twice the price; `true` if left out. Epochs and grants always do. */
  readonly consistentReads?: boolean | undefined;
  /** The longest time to live: DynamoDB makes no room by itself, so nothing may stay for ever. 30 days, in ms, if left out. */
  readonly maxAgeMs?: number | undefined;
  readonly wallClock?: WallClock | undefined;
  /** Gives 16 bytes that nobody else gives; random ones if left out. */
  readonly newGeneration?: (() => Uint8Array) | undefined;
}

const DEFAULT_ITEM_BYTES = 400 * 1024;
const DEFAULT_RECORD_BYTES = 64 * 2 ** 20;
const DEFAULT_AGE_MS = 30 * 24 * 3600 * 1000;
// Names and values of all attributes but the data: a key of 300 bytes, a generation, five numbers.
const ITEM_OVERHEAD_BYTES = 1024;
const MIN_ITEM_BYTES = 4096;
const PREFIX = /^[\x21-\x7e]{1,64}$/;

/**
 * Records in a table of Amazon's DynamoDB, or of a server that speaks as it does.
 *
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for options that cannot be
 */
export function createDynamoDbStore(options: DynamoDbStoreOptions): Store {
  const {
    table,
    prefix = 'inferkv:',
    maxItemBytes = DEFAULT_ITEM_BYTES,
    maxRecordBytes = DEFAULT_RECORD_BYTES,
    consistentReads = true,
    maxAgeMs = DEFAULT_AGE_MS,
    wallClock = systemWallClock,
    newGeneration = () => randomBytes(16),
  } = options;
  if (!PREFIX.test(prefix)) throw invalid('prefix', prefix, '1 to 64 printable ASCII characters without spaces');
  if (!(maxItemBytes >= MIN_ITEM_BYTES && maxItemBytes <= DEFAULT_ITEM_BYTES)) {
    throw invalid('maxItemBytes', maxItemBytes, `between ${MIN_ITEM_BYTES} and ${DEFAULT_ITEM_BYTES}`);
  }
  if (!(maxRecordBytes > 0 && maxRecordBytes < 2 ** 32)) throw invalid('maxRecordBytes', maxRecordBytes, 'below 4 GiB');
  if (!(maxAgeMs > 0 && Number.isFinite(maxAgeMs))) throw invalid('maxAgeMs', maxAgeMs, 'above 0, and finite');
  const counters = {
    sender: senderOf(options),
    table,
    calls: new OpenCalls('dynamodb'),
    prefix,
    numbers: new FreshNumbers(wallClock),
    wallClock,
  };
  return new DynamoDbStore({
    ...counters,
    itemBytes: maxItemBytes - ITEM_OVERHEAD_BYTES,
    maxRecordBytes,
    maxAgeMs,
    isConsistent: consistentReads,
    newGeneration,
    epochs: createEpochs(counters),
    grants: createGrants(counters),
  });
}

/** Makes the table of a store, on demand billing, and has DynamoDB delete what has expired; does nothing where all that is so. */
export async function createDynamoDbTable(
  options: DynamoDbTableOptions,
  { signal }: CallOptions = {},
): Promise<TableReport> {
  const sender = senderOf(options);
  try {
    return await makeTable(sender, options.table, options.clock ?? systemClock, signal);
  } finally {
    await sender.close();
  }
}

function senderOf(options: DynamoDbTableOptions): Sender {
  const { table, region, endpoint, sdkOptions, timeoutMs = 5000, retryMs = 10_000, clock = systemClock } = options;
  if (typeof table !== 'string' || table === '') throw invalid('table', table, 'the name of a table');
  if (!(timeoutMs > 0)) throw invalid('timeoutMs', timeoutMs, 'above 0');
  if (!(retryMs >= 0)) throw invalid('retryMs', retryMs, '0 or more');
  const random = options.random ?? createRandom(randomInt(2 ** 32));
  return new Sender({ table, region, endpoint, sdkOptions, timeoutMs, retryMs, clock, random });
}

function invalid(option: string, value: unknown, expected: string): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    `The option ${option} of the DynamoDB store is ${String(value)}; it must be ${expected}.`,
    { key: option },
  );
}
