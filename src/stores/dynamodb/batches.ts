import type { AttributeValue, KeysAndAttributes, WriteRequest } from '@aws-sdk/client-dynamodb';

import type { Sender } from './sender.ts';

/** An item, attribute by attribute. */
export type Item = Readonly<Record<string, AttributeValue>>;

/** What batches need. */
export interface BatchParts {
  readonly sender: Sender;
  readonly table: string;
}

/** What DynamoDB takes at once: 100 keys to read, 25 items to write, 16 MB either way, as base64 in requests. */
const KEYS_AT_ONCE = 100;
const ITEMS_AT_ONCE = 25;
const READ_BYTES_AT_ONCE = 16e6;
const WRITE_BYTES_AT_ONCE = 8e6;
const REQUESTS_AT_ONCE = 4;

/**
 * The items that are there, by key, whatever their number. What is left unprocessed is asked for again: at once if anything
 * came, as an answer is only so long, after a while if nothing did.
 *
 * @param itemBytes how long an item may be, so that no more is asked for at once than can come
 */
export async function readItems(
  { sender, table }: BatchParts,
  keys: readonly string[],
  itemBytes: number,
  isConsistent: boolean,
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<string, Item>> {
  const found = new Map<string, Item>();
  const size = Math.max(1, Math.min(KEYS_AT_ONCE, Math.floor(READ_BYTES_AT_ONCE / itemBytes)));
  await inTurn(slices([...new Set(keys)], size), async (slice) => {
    const retries = sender.retries(signal);
    let left: KeysAndAttributes = { Keys: slice.map((key) => ({ pk: { S: key } })), ConsistentRead: isConsistent };
    for (;;) {
      const asked = left;
      const { Responses, UnprocessedKeys } = await sender.send(signal, (client, sdk, options) =>
        client.send(new sdk.BatchGetItemCommand({ RequestItems: { [table]: asked } }), options),
      );
      const came = Responses?.[table] ?? [];
      for (const item of came) if (item['pk']?.S !== undefined) found.set(item['pk'].S, item);
      const next = UnprocessedKeys?.[table];
      if (next?.Keys === undefined || next.Keys.length === 0) return;
      left = { ...next, ConsistentRead: isConsistent };
      if (came.length === 0) await retries.wait();
    }
  });
  return found;
}

/** Writes items, or takes them out, whatever their number; what is left unprocessed is sent again. Items are made when they are about to go. */
export async function writeItems(
  { sender, table }: BatchParts,
  requests: readonly (() => WriteRequest)[],
  itemBytes: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const size = Math.max(1, Math.min(ITEMS_AT_ONCE, Math.floor(WRITE_BYTES_AT_ONCE / itemBytes)));
  await inTurn(slices(requests, size), async (slice) => {
    const retries = sender.retries(signal);
    let left: WriteRequest[] = slice.map((make) => make());
    while (left.length > 0) {
      const sent = left;
      const { UnprocessedItems } = await sender.send(signal, (client, sdk, options) =>
        client.send(new sdk.BatchWriteItemCommand({ RequestItems: { [table]: sent } }), options),
      );
      left = UnprocessedItems?.[table] ?? [];
      if (left.length === sent.length) await retries.wait();
    }
  });
}

/** Does something with each, a few at a time; begins no more once one has failed. */
export async function inTurn<T>(all: readonly T[], act: (one: T, at: number) => Promise<void>): Promise<void> {
  const rest = all.entries();
  let hasFailed = false;
  const worker = async (): Promise<void> => {
    for (const [at, one] of rest) {
      if (hasFailed) return;
      try {
        await act(one, at);
      } catch (error) {
        hasFailed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(REQUESTS_AT_ONCE, all.length) }, worker));
}

function slices<T>(all: readonly T[], size: number): readonly (readonly T[])[] {
  return Array.from({ length: Math.ceil(all.length / size) }, (_, at) => all.slice(at * size, (at + 1) * size));
}
