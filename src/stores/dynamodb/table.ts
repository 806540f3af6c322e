import type { DescribeTableCommandOutput } from '@aws-sdk/client-dynamodb';

import { InferkvError } from '../../base/errors.ts';
import { DynamoClient, type DynamoConnection } from './client.ts';

/** The attribute by which DynamoDB itself lets items go, in seconds since 1970. */
export const TTL_ATTRIBUTE = 'x';
/** The one that names an item. */
export const KEY_ATTRIBUTE = 'n';

const MAX_WAITS = 60;

/**
 * Makes the table that a store needs, if it is not there: paid by request, with time to live. Settles when it can be used.
 *
 * @throws InferkvError `ERR_INFERKV_STORE_FAILED` where it cannot be made
 */
export async function createDynamoTable(
  options: DynamoConnection & { readonly table: string; readonly signal?: AbortSignal },
): Promise<void> {
  const { table, signal } = options;
  const client = new DynamoClient(options);
  try {
    if ((await statusOf(client, table, signal)) === undefined) {
      await client.send(
        signal,
        ({ CreateTableCommand }) =>
          new CreateTableCommand({
            TableName: table,
            BillingMode: 'PAY_PER_REQUEST',
            AttributeDefinitions: [{ AttributeName: KEY_ATTRIBUTE, AttributeType: 'S' }],
            KeySchema: [{ AttributeName: KEY_ATTRIBUTE, KeyType: 'HASH' }],
          }),
      );
    }
    for (let waits = 1; (await statusOf(client, table, signal)) !== 'ACTIVE'; waits++) {
      if (waits > MAX_WAITS) {
        throw new InferkvError('ERR_INFERKV_STORE_FAILED', `The table ${table} is not ready yet; call again later.`, {
          key: table,
        });
      }
      await client.pause(waits, signal);
    }
    await client
      .send(
        signal,
        ({ UpdateTimeToLiveCommand }) =>
          new UpdateTimeToLiveCommand({
            TableName: table,
            TimeToLiveSpecification: { AttributeName: TTL_ATTRIBUTE, Enabled: true },
          }),
      )
      .catch((error: unknown) => {
        // It is enabled already, or a compatible service does not have it: then expired items stay until they are overwritten.
        if (!/already|unknown|not (supported|implemented)|UnknownOperation/i.test(String(error))) throw error;
      });
  } finally {
    await client.close();
  }
}

async function statusOf(
  client: DynamoClient,
  table: string,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  try {
    const { Table } = await client.send<DescribeTableCommandOutput>(
      signal,
      ({ DescribeTableCommand }) => new DescribeTableCommand({ TableName: table }),
    );
    return Table?.TableStatus;
  } catch (error) {
    if (((error as Error).cause as Error | undefined)?.name === 'ResourceNotFoundException') return undefined;
    throw error;
  }
}
