import { orAborted, throwIfAborted } from '../../base/cancellation.ts';
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
import { connected, makeClient, type RedisClient, type RedisConnection } from './client.ts';
import { RedisEpochs } from './epochs.ts';
import { isFull, redisError } from './errors.ts';
import { RedisGrants } from './grants.ts';
import { PUT_FENCED } from './scripts.ts';

/** What a Redis store is made of. */
export interface RedisStoreOptions extends RedisConnection {
  /** What all keys begin with; `inferkv:` if left out. */
  readonly prefix?: string | undefined;
  /** The longest record, in bytes; 64 MiB if left out, and no more than 512 MiB, which is Redis' own limit. */
  readonly maxRecordBytes?: number | undefined;
}

/** Asks the server through a client that has a connection. */
export type AskRedis = <T>(signal: AbortSignal | undefined, ask: (client: RedisClient) => Promise<T>) => Promise<T>;

const DEFAULT_PREFIX = 'inferkv:';
const DEFAULT_RECORD_BYTES = 64 * 2 ** 20;
const REDIS_LIMIT_BYTES = 512 * 2 ** 20;

/**
 * Records in Redis or Valkey: one server, one behind Sentinel, or a Cluster. A record is one value, so it is there as a whole or
 * not at all; what leaves when memory is full is the server's `maxmemory-policy`.
 */
export class RedisStore implements Store {
  readonly name = 'redis';
  readonly traits: StoreTraits;
  readonly epochs: EpochAuthority;
  readonly grants: GrantAuthority;
  readonly #options: RedisStoreOptions;
  readonly #prefix: string;
  readonly #epochs: RedisEpochs;
  #client: Promise<RedisClient> | undefined;
  #closed = false;

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` */
  constructor(options: RedisStoreOptions = {}) {
    const { maxRecordBytes = DEFAULT_RECORD_BYTES, prefix = DEFAULT_PREFIX } = options;
    if (!(maxRecordBytes > 0 && maxRecordBytes <= REDIS_LIMIT_BYTES) || !/^[\x21-\x7e]{0,100}$/.test(prefix)) {
      throw new InferkvError(
        'ERR_INFERKV_CONFIG_INVALID',
        'A Redis store cannot be: maxRecordBytes is above zero and at most 512 MiB, prefix up to 100 printable characters without spaces.',
      );
    }
    this.#options = options;
    this.#prefix = prefix;
    this.traits = { maxRecordBytes, persistent: true, reach: 'network' };
    const ask: AskRedis = (signal, work) => this.#ask(signal, work);
    this.#epochs = new RedisEpochs(ask, () => makeClient(options), prefix);
    this.epochs = this.#epochs;
    this.grants = new RedisGrants(ask, prefix);
  }

  async get(name: RecordName, { signal }: CallOptions = {}): Promise<Uint8Array | undefined> {
    const value = await this.#ask(signal, (client) => client.getBuffer(this.#prefix + name));
    return value ?? undefined;
  }

  async getMany(
    names: readonly RecordName[],
    { signal }: CallOptions = {},
  ): Promise<readonly (Uint8Array | undefined)[]> {
    if (names.length === 0) return [];
    // Sent one behind the other without waiting, to the node of each; a single large answer would hold up everybody else's.
    const settled = await this.#ask(signal, (client) =>
      Promise.allSettled(names.map((name) => client.getBuffer(this.#prefix + name))),
    );
    const failed = settled.find((each) => each.status === 'rejected');
    // Where one node of several is gone, the others' records are good.
    if (failed !== undefined && settled.every((each) => each.status === 'rejected')) throw redisError(failed.reason);
    return settled.map((each) => (each.status === 'fulfilled' ? (each.value ?? undefined) : undefined));
  }

  async put(name: RecordName, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<PutOutcome> {
    const { signal, ttlMs, token = 0 } = options;
    if (lengthOfParts(parts) > this.traits.maxRecordBytes) return 'too-large';
    const key = this.#prefix + name;
    const value = Buffer.concat(parts);
    // Forgotten at the earliest after that time.
    const ttl = ttlMs === undefined ? undefined : Math.max(1, Math.ceil(ttlMs));
    try {
      if (token > 0) {
        const fence = Buffer.alloc(8);
        fence.writeBigUInt64BE(BigInt(token));
        const written = await this.#ask(signal, (client) =>
          client.eval(PUT_FENCED, 1, key, fence, value, ttl === undefined ? '' : String(ttl)),
        );
        return written === 1 ? 'stored' : 'superseded';
      }
      await this.#ask(signal, (client) =>
        ttl === undefined ? client.set(key, value) : client.set(key, value, 'PX', ttl),
      );
      return 'stored';
    } catch (error) {
      if (isFull((error as Error).cause)) return 'full';
      throw error;
    }
  }

  async delete(name: RecordName, { signal }: CallOptions = {}): Promise<boolean> {
    return (await this.#ask(signal, (client) => client.unlink(this.#prefix + name))) > 0;
  }

  stats(): StoreStats {
    return {};
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#epochs.close();
    const client = await this.#client?.catch(() => undefined);
    client?.disconnect();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #ask<T>(signal: AbortSignal | undefined, ask: (client: RedisClient) => Promise<T>): Promise<T> {
    if (this.#closed) throw new InferkvError('ERR_INFERKV_CLOSED', 'The Redis store is closed; make a new one.');
    throwIfAborted(signal);
    this.#client ??= makeClient(this.#options);
    try {
      const client = await this.#client;
      await connected(client, signal);
      return await orAborted(ask(client), signal);
    } catch (error) {
      throw redisError(error);
    }
  }
}
