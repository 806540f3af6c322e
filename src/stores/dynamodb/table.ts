import type { CreateTableCommandInput } from '@aws-sdk/client-dynamodb';

import type { Clock } from '../../base/clock.ts';
import { InferkvError, isInferkvError } from '../../base/errors.ts';
import { TTL_ATTRIBUTE } from './items.ts';
import { pause, type Sender } from './sender.ts';

/** What became of making a table. */
export interface TableReport {
  /** `false` if it was there already. */
  readonly isNew: boolean;
  /** Whether DynamoDB deletes what has expired; `false` where the server knows no such thing (some that are compatible do not). */
  readonly expires: boolean;
}

const POLL_MS = 500;
const POLLS = 240;

/** Makes the table if it is not there, waits until it can be used, and has DynamoDB delete what has expired. */
export async function makeTable(
  sender: Sender,
  table: string,
  clock: Clock,
  signal: AbortSignal | undefined,
): Promise<TableReport> {
  const isNew = await create(sender, table, signal);
  for (let left = POLLS; !(await isActive(sender, table, signal)); left--) {
    if (left === 0) {
      throw new InferkvError(
        'ERR_INFERKV_STORE_FAILED',
        `The table ${table} of DynamoDB is not ready after ${(POLLS * POLL_MS) / 1000} s; look at it in the console.`,
        { key: table },
      );
    }
    await pause(POLL_MS, clock, signal);
  }
  return { isNew, expires: await expire(sender, table, signal) };
}

async function create(sender: Sender, table: string, signal: AbortSignal | undefined): Promise<boolean> {
  const input: CreateTableCommandInput = {
    TableName: table,
    BillingMode: 'PAY_PER_REQUEST',
    AttributeDefinitions: [{ AttributeName: 'pk', AttributeType: 'S' }],
    KeySchema: [{ AttributeName: 'pk', KeyType: 'HASH' }],
  };
  try {
    await sender.send(signal, (client, sdk, options) => client.send(new sdk.CreateTableCommand(input), options));
    return true;
  } catch (error) {
    if (isCausedBy(error, 'ResourceInUseException')) return false;
    throw error;
  }
}

async function isActive(sender: Sender, table: string, signal: AbortSignal | undefined): Promise<boolean> {
  const { Table } = await sender.send(signal, (client, sdk, options) =>
    client.send(new sdk.DescribeTableCommand({ TableName: table }), options),
  );
  return Table?.TableStatus === 'ACTIVE';
}

async function expire(sender: Sender, table: string, signal: AbortSignal | undefined): Promise<boolean> {
  const input = { TableName: table, TimeToLiveSpecification: { AttributeName: TTL_ATTRIBUTE, Enabled: true } };
  try {
    const { TimeToLiveDescription: present } = await sender.send(signal, (client, sdk, options) =>
      client.send(new sdk.DescribeTimeToLiveCommand({ TableName: table }), options),
    );
    if (present?.TimeToLiveStatus === 'ENABLED' || present?.TimeToLiveStatus === 'ENABLING') {
      return present.AttributeName === TTL_ATTRIBUTE;
    }
    await sender.send(signal, (client, sdk, options) => client.send(new sdk.UpdateTimeToLiveCommand(input), options));
    return true;
  } catch (error) {
    if (isCausedBy(error, 'UnknownOperationException')) return false;
    throw error;
  }
}

function isCausedBy(error: unknown, name: string): boolean {
  return isInferkvError(error) && error.cause instanceof Error && error.cause.name === name;
}
