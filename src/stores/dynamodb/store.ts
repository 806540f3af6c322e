import { throwIfAborted } from '../../base/cancellation.ts';
import type { WallClock } from '../../base/clock.ts';
import type { OpenCalls } from '../open-calls.ts';
import {
  lengthOfParts,
  type CallOptions,
  type EpochAuthority,
  type GetOptions,
  type GrantAuthority,
  type PutOptions,
  type PutOutcome,
  type Store,
  type StoreStats,
  type StoreTraits,
} from '../store.ts';
import { readItems, writeItems, type BatchParts, type Item } from './batches.ts';
import {
  chunkKeys,
  chunkWrites,
  isAlive,
  joinItems,
  manifestOf,
  numberOf,
  recordItem,
  wholeOf,
  type Manifest,
} from './items.ts';

/** What the store is made of. */
export interface DynamoDbParts extends BatchParts {
  readonly calls: OpenCalls;
  readonly prefix: string;
  /** The longest value of an item. */
  readonly itemBytes: number;
  readonly maxRecordBytes: number;
  readonly maxAgeMs: number;
  readonly isConsistent: boolean;
  readonly wallClock: WallClock;
  readonly newGeneration: () => Uint8Array;
  readonly epochs: EpochAuthority;
  readonly grants: GrantAuthority;
}

type Allocate = (lengthBytes: number) => Uint8Array;

const fresh: Allocate = (lengthBytes) => new Uint8Array(lengthBytes);

/** Records in a table of DynamoDB. */
export class DynamoDbStore implements Store {
  readonly name = 'dynamodb';
  readonly traits: StoreTraits;
  readonly epochs: EpochAuthority;
  readonly grants: GrantAuthority;
  readonly #parts: DynamoDbParts;

  constructor(parts: DynamoDbParts) {
    this.#parts = parts;
    this.traits = { maxRecordBytes: parts.maxRecordBytes, persistent: true, reach: 'network' };
    this.epochs = parts.epochs;
    this.grants = parts.grants;
  }

  get(name: string, { signal, allocate }: GetOptions = {}): Promise<Uint8Array | undefined> {
    return this.#parts.calls.run(signal, async () => {
      const { sender, table, isConsistent } = this.#parts;
      const Key = { pk: { S: this.#key(name) } };
      const { Item: item } = await sender.send(signal, (client, sdk, options) =>
        client.send(new sdk.GetItemCommand({ TableName: table, Key, ConsistentRead: isConsistent }), options),
      );
      // An answer to another question, or none of DynamoDB.
      if (item?.['pk']?.S !== Key.pk.S) return undefined;
      const [record] = await this.#open([item], allocate ?? fresh, signal);
      return record;
    });
  }

  getMany(names: readonly string[], { signal }: CallOptions = {}): Promise<readonly (Uint8Array | undefined)[]> {
    return this.#parts.calls.run(signal, async () => {
      const keys = names.map((name) => this.#key(name));
      // How long they are is not known; what does not fit into an answer is asked for again.
      const items = await readItems(this.#parts, keys, 1, this.#parts.isConsistent, signal);
      return this.#open(
        keys.map((key) => items.get(key)),
        fresh,
        signal,
      );
    });
  }

  put(name: string, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<PutOutcome> {
    const { signal, token = 0, ttlMs = Number.POSITIVE_INFINITY } = options;
    return this.#parts.calls.run(signal, async () => {
      const { itemBytes, maxRecordBytes, maxAgeMs, wallClock, newGeneration, prefix } = this.#parts;
      const length = lengthOfParts(parts);
      if (length > maxRecordBytes) return 'too-large';
      const expiresAtMs = wallClock() + Math.min(Math.max(0, ttlMs), maxAgeMs);
      const manifest =
        length <= itemBytes ? undefined : { generation: newGeneration(), recordBytes: length, chunkBytes: itemBytes };
      if (manifest !== undefined) {
        // Before a long record is sent; asked again when its manifest goes.
        if (token > 0 && (await this.#isSuperseded(name, token, signal))) return 'superseded';
        throwIfAborted(signal);
        const writes = chunkWrites(prefix, parts, manifest, expiresAtMs);
        await writeItems(this.#parts, writes, itemBytes, signal);
        throwIfAborted(signal);
      }
      const old = await this.#putItem(recordItem(this.#key(name), parts, manifest, expiresAtMs), token, signal);
      const stale = old === 'superseded' ? manifest : manifestOf(old, Number.MAX_SAFE_INTEGER);
      if (stale !== undefined) await this.#deleteChunks(stale, signal);
      return old === 'superseded' ? 'superseded' : 'stored';
    });
  }

  delete(name: string, { signal }: CallOptions = {}): Promise<boolean> {
    return this.#parts.calls.run(signal, async () => {
      const { sender, table, wallClock } = this.#parts;
      const Key = { pk: { S: this.#key(name) } };
      const { Attributes: old } = await sender.send(signal, (client, sdk, options) =>
        client.send(new sdk.DeleteItemCommand({ TableName: table, Key, ReturnValues: 'ALL_OLD' }), options),
      );
      const stale = manifestOf(old, Number.MAX_SAFE_INTEGER);
      if (stale !== undefined) await this.#deleteChunks(stale, signal);
      return isAlive(old, wallClock());
    });
  }

  stats(): StoreStats {
    return {};
  }

  close(): Promise<void> {
    return this.#parts.calls.close(() => this.#parts.sender.close());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The records in these items; chunks of all that are longer than an item are read together. */
  async #open(
    items: readonly (Item | undefined)[],
    allocate: Allocate,
    signal: AbortSignal | undefined,
  ): Promise<readonly (Uint8Array | undefined)[]> {
    const { prefix, maxRecordBytes, itemBytes, isConsistent, wallClock } = this.#parts;
    const now = wallClock();
    const alive = items.map((item) => (isAlive(item, now) ? item : undefined));
    const manifests = alive.map((item) => manifestOf(item, maxRecordBytes));
    const keys = manifests.flatMap((manifest) => (manifest === undefined ? [] : chunkKeys(prefix, manifest)));
    const chunks = keys.length === 0 ? undefined : await readItems(this.#parts, keys, itemBytes, isConsistent, signal);
    return alive.map((item, at) => {
      const manifest = manifests[at];
      if (item === undefined) return undefined;
      if (manifest === undefined || chunks === undefined) return wholeOf(item, allocate);
      return joinItems(prefix, manifest, chunks, allocate);
    });
  }

  /** Writes an item over whatever has no greater token; what lay there, if anything did. */
  async #putItem(
    item: Record<string, Item[string]>,
    token: number,
    signal: AbortSignal | undefined,
  ): Promise<Item | undefined | 'superseded'> {
    const { sender, table, wallClock } = this.#parts;
    const condition =
      token === 0
        ? {}
        : {
            ConditionExpression: 'attribute_not_exists(t) OR t <= :token OR x <= :now',
            ExpressionAttributeValues: {
              ':token': { N: String(token) },
              ':now': { N: String(Math.floor(wallClock())) },
            },
          };
    const done = await sender.sendIf(signal, (client, sdk, options) =>
      client.send(
        new sdk.PutItemCommand({ TableName: table, Item: item, ReturnValues: 'ALL_OLD', ...condition }),
        options,
      ),
    );
    return done === undefined ? 'superseded' : done.Attributes;
  }

  async #isSuperseded(name: string, token: number, signal: AbortSignal | undefined): Promise<boolean> {
    const { sender, table, wallClock } = this.#parts;
    const { Item: found } = await sender.send(signal, (client, sdk, options) =>
      client.send(
        new sdk.GetItemCommand({
          TableName: table,
          Key: { pk: { S: this.#key(name) } },
          ProjectionExpression: 't, x',
          ConsistentRead: true,
        }),
        options,
      ),
    );
    return isAlive(found, wallClock()) && numberOf(found, 't') > token;
  }

  /** Nobody finds them any more; what cannot be deleted now, DynamoDB deletes when it has expired. */
  async #deleteChunks(manifest: Manifest, signal: AbortSignal | undefined): Promise<void> {
    const { prefix } = this.#parts;
    const deletes = chunkKeys(prefix, manifest).map((key) => () => ({ DeleteRequest: { Key: { pk: { S: key } } } }));
    await writeItems(this.#parts, deletes, 1, signal).catch(() => undefined);
  }

  #key(name: string): string {
    return `${this.#parts.prefix}r:${name}`;
  }
}
