import { randomBytes } from 'node:crypto';

import type {
  BatchGetItemCommandOutput,
  BatchWriteItemCommandOutput,
  DeleteItemCommandOutput,
  PutItemCommandOutput,
} from '@aws-sdk/client-dynamodb';

import { systemWallClock, type WallClock } from '../../base/clock.ts';
import { InferkvError } from '../../base/errors.ts';
import {
  lengthOfParts,
  type CallOptions,
  type EpochAuthority,
  type GrantAuthority,
  type PutOptions,
  type PutOutcome,
  type RecordName,
  type Store,
  type StoreStats,
  type StoreTraits,
} from '../store.ts';
import { dynamoEpochs, dynamoGrants } from './authorities.ts';
import { DynamoClient, isConditionFailed, type DynamoConnection, type Item } from './client.ts';
import { KEY_ATTRIBUTE, TTL_ATTRIBUTE } from './table.ts';

/** What a DynamoDB store is made of. */
export interface DynamoStoreOptions extends DynamoConnection {
  /** A table that `createDynamoTable` made, or one like it. */
  readonly table: string;
  /** What the names of all items begin with; `inferkv:` if left out. */
  readonly prefix?: string | undefined;
  /** The longest record, in bytes; 64 MiB if left out. */
  readonly maxRecordBytes?: number | undefined;
  /** `false` for reads that may be some seconds old and cost half; `true` if left out. */
  readonly consistentReads?: boolean | undefined;
  readonly wallClock?: WallClock | undefined;
}

const DEFAULT_RECORD_BYTES = 64 * 2 ** 20;
// An item may take 400 KB, its names included.
const CHUNK_BYTES = 380 * 1024;
const MAX_BATCH_GET = 100;
const MAX_BATCH_WRITE = 25;
// A batch may take 16 MB.
const CHUNKS_A_BATCH = 40;
const MAX_TRIES = 12;

/** Which items a long record lies in. */
interface Manifest {
  readonly generation: string;
  readonly chunks: number;
  readonly lengthBytes: number;
}

/**
 * Records in Amazon's DynamoDB, or what speaks its protocol. Those longer than an item lie in several, under names that no other
 * write ever has, and a manifest names them.
 */
export class DynamoStore implements Store {
  readonly name = 'dynamodb';
  readonly traits: StoreTraits;
  readonly epochs: EpochAuthority;
  readonly grants: GrantAuthority;
  readonly #client: DynamoClient;
  readonly #table: string;
  readonly #prefix: string;
  readonly #isConsistent: boolean;
  readonly #wallClock: WallClock;

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` */
  constructor(options: DynamoStoreOptions) {
    const {
      table,
      prefix = 'inferkv:',
      maxRecordBytes = DEFAULT_RECORD_BYTES,
      consistentReads = true,
      wallClock,
    } = options;
    if (typeof table !== 'string' || table === '' || !(maxRecordBytes > 0)) {
      throw new InferkvError(
        'ERR_INFERKV_CONFIG_INVALID',
        'A DynamoDB store needs the name of a table, and records of some bytes.',
      );
    }
    this.#table = table;
    this.#prefix = prefix;
    this.#isConsistent = consistentReads;
    this.#wallClock = wallClock ?? systemWallClock;
    this.#client = new DynamoClient(options);
    this.traits = { maxRecordBytes, persistent: true, reach: 'network' };
    const place = { client: this.#client, table, prefix, wallClock: this.#wallClock };
    this.epochs = dynamoEpochs(place);
    this.grants = dynamoGrants(place);
  }

  async get(name: RecordName, options: CallOptions = {}): Promise<Uint8Array | undefined> {
    const [record] = await this.getMany([name], options);
    return record;
  }

  async getMany(
    names: readonly RecordName[],
    { signal }: CallOptions = {},
  ): Promise<readonly (Uint8Array | undefined)[]> {
    if (names.length === 0) return [];
    const heads = await this.#getItems([...new Set(names.map((name) => this.#prefix + name))], MAX_BATCH_GET, signal);
    const manifests = new Map(
      [...heads].flatMap(([key, item]) => {
        const manifest = this.#isOver(item) ? undefined : manifestOf(item);
        return manifest === undefined ? [] : [[key, manifest] as const];
      }),
    );
    const chunkNames = [...manifests].flatMap(([key, manifest]) => chunkNamesOf(key, manifest));
    const chunks =
      chunkNames.length === 0 ? new Map<string, Item>() : await this.#getItems(chunkNames, CHUNKS_A_BATCH, signal);
    return names.map((name) => {
      const key = this.#prefix + name;
      const item = heads.get(key);
      if (item === undefined || this.#isOver(item)) return undefined;
      const manifest = manifests.get(key);
      return manifest === undefined ? copied(item['v']?.B) : joined(key, manifest, chunks);
    });
  }

  async put(name: RecordName, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<PutOutcome> {
    const { signal, ttlMs, token = 0 } = options;
    const lengthBytes = lengthOfParts(parts);
    if (lengthBytes > this.traits.maxRecordBytes) return 'too-large';
    const key = this.#prefix + name;
    const record = Buffer.concat(parts);
    const facts = this.#facts(ttlMs);
    const head = { ...facts, [KEY_ATTRIBUTE]: { S: key }, t: { N: String(token) } };
    if (lengthBytes <= CHUNK_BYTES) return this.#putHead({ ...head, v: { B: record } }, token, signal);
    const manifest = {
      generation: randomBytes(8).toString('hex'),
      chunks: Math.ceil(lengthBytes / CHUNK_BYTES),
      lengthBytes,
    };
    const chunks = chunkNamesOf(key, manifest).map((chunk, at) => {
      const v = { B: record.subarray(at * CHUNK_BYTES, (at + 1) * CHUNK_BYTES) };
      return { PutRequest: { Item: Object.assign({ [KEY_ATTRIBUTE]: { S: chunk }, v }, facts) } };
    });
    await this.#writeItems(chunks, signal);
    const described = {
      g: { S: manifest.generation },
      c: { N: String(manifest.chunks) },
      l: { N: String(lengthBytes) },
    };
    const outcome = await this.#putHead({ ...head, ...described }, token, signal);
    if (outcome !== 'stored') await this.#deleteChunks(key, manifest, signal);
    return outcome;
  }

  async delete(name: RecordName, { signal }: CallOptions = {}): Promise<boolean> {
    const key = this.#prefix + name;
    const { Attributes: old } = await this.#client.send<DeleteItemCommandOutput>(
      signal,
      ({ DeleteItemCommand }) =>
        new DeleteItemCommand({
          TableName: this.#table,
          Key: { [KEY_ATTRIBUTE]: { S: key } },
          ReturnValues: 'ALL_OLD',
        }),
    );
    if (old === undefined) return false;
    const manifest = manifestOf(old);
    if (manifest !== undefined) await this.#deleteChunks(key, manifest, signal);
    return !this.#isOver(old);
  }

  stats(): StoreStats {
    return {};
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Puts the item that a record is found by, and lets the items of what lay there go. */
  async #putHead(item: Item, token: number, signal: AbortSignal | undefined): Promise<PutOutcome> {
    const condition = {
      ConditionExpression: 'attribute_not_exists(#t) OR #t <= :t',
      ExpressionAttributeNames: { '#t': 't' },
      ExpressionAttributeValues: { ':t': { N: String(token) } },
    };
    try {
      const { Attributes: old } = await this.#client.send<PutItemCommandOutput>(
        signal,
        ({ PutItemCommand }) =>
          new PutItemCommand({
            TableName: this.#table,
            Item: item,
            ReturnValues: 'ALL_OLD',
            ...(token > 0 && condition),
          }),
      );
      const manifest = old === undefined ? undefined : manifestOf(old);
      if (manifest !== undefined) await this.#deleteChunks(item[KEY_ATTRIBUTE]?.S ?? '', manifest, signal);
      return 'stored';
    } catch (error) {
      if (isConditionFailed(error)) return 'superseded';
      throw error;
    }
  }

  /** Items by name; those that DynamoDB does not get to are asked for again. */
  async #getItems(
    names: readonly string[],
    batch: number,
    signal: AbortSignal | undefined,
  ): Promise<Map<string, Item>> {
    const found = new Map<string, Item>();
    let left = [...names];
    for (let tries = 1; left.length > 0; tries++) {
      const asked = left.slice(0, batch);
      const { Responses = {}, UnprocessedKeys = {} } = await this.#client.send<BatchGetItemCommandOutput>(
        signal,
        ({ BatchGetItemCommand }) =>
          new BatchGetItemCommand({
            RequestItems: {
              [this.#table]: {
                Keys: asked.map((name) => ({ [KEY_ATTRIBUTE]: { S: name } })),
                ConsistentRead: this.#isConsistent,
              },
            },
          }),
      );
      for (const item of Responses[this.#table] ?? []) found.set(item[KEY_ATTRIBUTE]?.S ?? '', item);
      const unprocessed = (UnprocessedKeys[this.#table]?.Keys ?? []).map((key) => key[KEY_ATTRIBUTE]?.S ?? '');
      left = [...unprocessed, ...left.slice(batch)];
      if (unprocessed.length === 0) tries = 0;
      else if (tries >= MAX_TRIES) throw unprocessedError();
      else await this.#client.pause(tries, signal);
    }
    return found;
  }

  async #writeItems(
    requests: readonly (
      | { readonly PutRequest: { readonly Item: Item } }
      | { readonly DeleteRequest: { readonly Key: Item } }
    )[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    let left = [...requests] as NonNullable<NonNullable<BatchWriteItemCommandOutput['UnprocessedItems']>[string]>;
    for (let tries = 1; left.length > 0; tries++) {
      const batch = left.slice(0, MAX_BATCH_WRITE);
      const { UnprocessedItems = {} } = await this.#client.send<BatchWriteItemCommandOutput>(
        signal,
        ({ BatchWriteItemCommand }) => new BatchWriteItemCommand({ RequestItems: { [this.#table]: batch } }),
      );
      const unprocessed = UnprocessedItems[this.#table] ?? [];
      left = [...unprocessed, ...left.slice(MAX_BATCH_WRITE)];
      if (unprocessed.length === 0) tries = 0;
      else if (tries >= MAX_TRIES) throw unprocessedError();
      else await this.#client.pause(tries, signal);
    }
  }

  async #deleteChunks(key: string, manifest: Manifest, signal: AbortSignal | undefined): Promise<void> {
    const requests = chunkNamesOf(key, manifest).map((name) => ({
      DeleteRequest: { Key: { [KEY_ATTRIBUTE]: { S: name } } },
    }));
    // Nobody finds them any more; what stays only costs room.
    await this.#writeItems(requests, signal).catch(() => undefined);
  }

  #facts(ttlMs: number | undefined): Item {
    if (ttlMs === undefined) return {};
    const until = this.#wallClock() + ttlMs;
    // DynamoDB lets go late, and by whole seconds.
    return { e: { N: String(until) }, [TTL_ATTRIBUTE]: { N: String(Math.ceil(until / 1000) + 1) } };
  }

  #isOver(item: Item): boolean {
    const until = item['e']?.N;
    return until !== undefined && Number(until) <= this.#wallClock();
  }
}

function manifestOf(item: Item): Manifest | undefined {
  const generation = item['g']?.S;
  const chunks = Number(item['c']?.N);
  const lengthBytes = Number(item['l']?.N);
  if (generation === undefined || !Number.isSafeInteger(chunks) || !Number.isSafeInteger(lengthBytes)) return undefined;
  return { generation, chunks, lengthBytes };
}

function chunkNamesOf(key: string, { generation, chunks }: Manifest): readonly string[] {
  return Array.from({ length: chunks }, (_, at) => `${key}#${generation}#${at}`);
}

function joined(key: string, manifest: Manifest, chunks: ReadonlyMap<string, Item>): Uint8Array | undefined {
  const record = new Uint8Array(manifest.lengthBytes);
  let at = 0;
  for (const name of chunkNamesOf(key, manifest)) {
    const chunk = chunks.get(name)?.['v']?.B;
    if (chunk === undefined || at + chunk.length > record.length) return undefined;
    record.set(chunk, at);
    at += chunk.length;
  }
  return at === record.length ? record : undefined;
}

function copied(bytes: Uint8Array | undefined): Uint8Array | undefined {
  return bytes === undefined ? undefined : Uint8Array.from(bytes);
}

function unprocessedError(): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_STORE_FAILED',
    'DynamoDB left part of a batch undone again and again: it takes more than the table is provisioned for.',
    { key: 'dynamodb' },
  );
}
