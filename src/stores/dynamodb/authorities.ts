import type { GetItemCommandOutput, UpdateItemCommandOutput } from '@aws-sdk/client-dynamodb';

import type { WallClock } from '../../base/clock.ts';
import type { EpochAuthority, GrantAuthority } from '../store.ts';
import { isConditionFailed, type DynamoClient, type Item } from './client.ts';
import { KEY_ATTRIBUTE, TTL_ATTRIBUTE } from './table.ts';

interface Place {
  readonly client: DynamoClient;
  readonly table: string;
  readonly prefix: string;
  readonly wallClock: WallClock;
}

// An item of a right stays that long after it is over, for the sake of its token.
const RIGHT_KEPT_MS = 24 * 3600 * 1000;

/** Epochs in DynamoDB: an item a scope, raised by an update that adds. */
export function dynamoEpochs({ client, table, prefix, wallClock }: Place): EpochAuthority {
  const keyOf = (scope: string): Item => ({ [KEY_ATTRIBUTE]: { S: `${prefix}epoch#${scope}` } });
  const base = { [KEY_ATTRIBUTE]: { S: `${prefix}epoch-base` } };
  const read = async (key: Item, signal: AbortSignal | undefined): Promise<number | undefined> => {
    const { Item: item } = await client.send<GetItemCommandOutput>(
      signal,
      ({ GetItemCommand }) => new GetItemCommand({ TableName: table, Key: key, ConsistentRead: true }),
    );
    return item?.['b']?.N === undefined ? undefined : Number(item['b'].N);
  };
  let known: number | undefined;
  // What a scope begins with: made once for the table.
  const first = async (signal: AbortSignal | undefined): Promise<number> => {
    known ??= await read(base, signal);
    if (known !== undefined) return known;
    try {
      const made = { ...base, b: { N: String(Math.floor(wallClock())) } };
      await client.send(
        signal,
        ({ PutItemCommand }) =>
          new PutItemCommand({
            TableName: table,
            Item: made,
            ConditionExpression: `attribute_not_exists(${KEY_ATTRIBUTE})`,
          }),
      );
    } catch (error) {
      // Another was faster.
      if (!isConditionFailed(error)) throw error;
    }
    known = await read(base, signal);
    return known ?? Math.floor(wallClock());
  };
  return {
    read: (scopes, { signal } = {}) =>
      Promise.all(scopes.map(async (scope) => (await read(keyOf(scope), signal)) ?? first(signal))),
    bump: async (scopes, { signal } = {}) => {
      const begin = await first(signal);
      return Promise.all(
        scopes.map(async (scope) => {
          const { Attributes: raised } = await client.send<UpdateItemCommandOutput>(
            signal,
            ({ UpdateItemCommand }) =>
              new UpdateItemCommand({
                TableName: table,
                Key: keyOf(scope),
                UpdateExpression: 'SET b = if_not_exists(b, :first) + :one',
                ExpressionAttributeValues: { ':first': { N: String(begin) }, ':one': { N: '1' } },
                ReturnValues: 'UPDATED_NEW',
              }),
          );
          return Number(raised?.['b']?.N);
        }),
      );
    },
  };
}

/** Rights in DynamoDB: an item that is only overwritten when it is over, by the clocks of those who ask. */
export function dynamoGrants({ client, table, prefix, wallClock }: Place): GrantAuthority {
  const nameOf = (name: string): string => `${prefix}right#${name}`;
  const read = async (
    name: string,
    signal: AbortSignal | undefined,
  ): Promise<{ token: number; untilMs: number } | undefined> => {
    const { Item: item } = await client.send<GetItemCommandOutput>(
      signal,
      ({ GetItemCommand }) =>
        new GetItemCommand({ TableName: table, Key: { [KEY_ATTRIBUTE]: { S: nameOf(name) } }, ConsistentRead: true }),
    );
    return item === undefined ? undefined : { token: Number(item['t']?.N ?? 0), untilMs: Number(item['e']?.N ?? 0) };
  };
  /** Writes a right over the one that was read, and over no other. */
  const write = async (
    name: string,
    token: number,
    untilMs: number,
    over: { readonly token: number; readonly untilMs: number } | undefined,
    signal: AbortSignal | undefined,
  ): Promise<boolean> => {
    const item = {
      [KEY_ATTRIBUTE]: { S: nameOf(name) },
      t: { N: String(token) },
      e: { N: String(untilMs) },
      [TTL_ATTRIBUTE]: { N: String(Math.ceil((untilMs + RIGHT_KEPT_MS) / 1000)) },
    };
    const condition =
      over === undefined
        ? { ConditionExpression: `attribute_not_exists(${KEY_ATTRIBUTE})` }
        : {
            ConditionExpression: '#t = :t AND #e = :e',
            ExpressionAttributeNames: { '#t': 't', '#e': 'e' },
            ExpressionAttributeValues: { ':t': { N: String(over.token) }, ':e': { N: String(over.untilMs) } },
          };
    try {
      await client.send(
        signal,
        ({ PutItemCommand }) => new PutItemCommand({ TableName: table, Item: item, ...condition }),
      );
      return true;
    } catch (error) {
      if (isConditionFailed(error)) return false;
      throw error;
    }
  };
  return {
    acquire: async (name, ttlMs, { signal } = {}) => {
      const old = await read(name, signal);
      const now = wallClock();
      if (old !== undefined && old.untilMs > now) return undefined;
      const token = Math.max((old?.token ?? 0) + 1, Math.floor(now));
      return (await write(name, token, now + ttlMs, old, signal)) ? token : undefined;
    },
    renew: async (name, token, ttlMs, { signal } = {}) => {
      const old = await read(name, signal);
      if (old?.token !== token || old.untilMs <= wallClock()) return false;
      return write(name, token, wallClock() + ttlMs, old, signal);
    },
    release: async (name, token, { signal } = {}) => {
      const old = await read(name, signal);
      if (old?.token === token && old.untilMs > 0) await write(name, token, 0, old, signal);
    },
  };
}
