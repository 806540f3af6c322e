import { randomBytes } from 'node:crypto';

import { throwIfAborted } from '../../base/cancellation.ts';
import { systemWallClock, type WallClock } from '../../base/clock.ts';
import { InferkvError } from '../../base/errors.ts';
import { tokenOf, TOKEN_OFFSET } from '../record.ts';
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
import { memcachedEpochs, memcachedGrants } from './authorities.ts';
import { Items, type Item, type ItemOutcome } from './items.ts';

/** What a Memcached store is made of. */
export interface MemcachedStoreOptions {
  /** `host:port` of each server, in the same order at every client; `127.0.0.1:11211` if left out. */
  readonly servers?: readonly string[] | undefined;
  /** For SASL. */
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** What all keys begin with, up to 24 printable characters; `inferkv:` if left out. */
  readonly prefix?: string | undefined;
  /** The longest item that the servers take, their `-I`; 1 MiB if left out. Longer records lie in several. */
  readonly maxItemBytes?: number | undefined;
  /** The longest record, in bytes; 64 MiB if left out. */
  readonly maxRecordBytes?: number | undefined;
  /** Milliseconds that making a connection may take; 1,000 if left out. */
  readonly connectTimeoutMs?: number | undefined;
  readonly wallClock?: WallClock | undefined;
}

const DEFAULT_RECORD_BYTES = 64 * 2 ** 20;
const DEFAULT_ITEM_BYTES = 2 ** 20;
// Key, header and suffix of an item count towards its limit.
const ITEM_OVERHEAD_BYTES = 512;
const MIN_ITEM_BYTES = 4096;
const MANIFEST = 1;
const HEAD_BYTES = TOKEN_OFFSET + 8;
const GENERATION_BYTES = 8;
const MANIFEST_BYTES = HEAD_BYTES + GENERATION_BYTES + 8;
const MAX_TRIES = 5;

/** Which items a long record lies in. */
interface Manifest {
  readonly generation: string;
  readonly lengthBytes: number;
}

/**
 * Records in Memcached. Those longer than an item lie in several, under names that no other write ever has, and a manifest names
 * them; if one is missing, the record is.
 */
export class MemcachedStore implements Store {
  readonly name = 'memcached';
  readonly traits: StoreTraits;
  readonly epochs: EpochAuthority;
  readonly grants: GrantAuthority;
  readonly #items: Items;
  readonly #prefix: string;
  readonly #chunkBytes: number;
  #closed = false;

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` */
  constructor(options: MemcachedStoreOptions = {}) {
    const { servers = ['127.0.0.1:11211'], prefix = 'inferkv:', maxItemBytes = DEFAULT_ITEM_BYTES } = options;
    const { maxRecordBytes = DEFAULT_RECORD_BYTES, connectTimeoutMs = 1000, username, password } = options;
    const wallClock = options.wallClock ?? systemWallClock;
    if (
      !(maxItemBytes >= MIN_ITEM_BYTES) ||
      !/^[\x21-\x7e]{0,24}$/.test(prefix) ||
      !(maxRecordBytes > 0) ||
      servers.length === 0
    ) {
      throw new InferkvError(
        'ERR_INFERKV_CONFIG_INVALID',
        `A Memcached store cannot be: it needs a server, items of ${MIN_ITEM_BYTES} bytes or more, and a prefix of up to 24 printable characters without spaces.`,
      );
    }
    this.#prefix = prefix;
    this.#chunkBytes = maxItemBytes - ITEM_OVERHEAD_BYTES;
    this.traits = { maxRecordBytes, persistent: false, reach: 'network' };
    const maxBodyBytes = maxItemBytes + ITEM_OVERHEAD_BYTES;
    this.#items = new Items(
      servers.map((server) => {
        const { host, port } = addressOf(server);
        return { host, port, username, password, connectTimeoutMs, maxBodyBytes };
      }),
    );
    const check = (signal: AbortSignal | undefined): void => this.#check(signal);
    this.epochs = memcachedEpochs(this.#items, prefix, wallClock, check);
    this.grants = memcachedGrants(this.#items, prefix, wallClock, check);
  }

  async get(name: RecordName, { signal }: CallOptions = {}): Promise<Uint8Array | undefined> {
    this.#check(signal);
    const item = await this.#items.get(this.#prefix + name, signal);
    return item === undefined ? undefined : this.#record(name, item, signal);
  }

  async getMany(names: readonly RecordName[], options: CallOptions = {}): Promise<readonly (Uint8Array | undefined)[]> {
    this.#check(options.signal);
    // All questions go out before the first answer is waited for.
    const settled = await Promise.allSettled(names.map((name) => this.get(name, options)));
    const failed = settled.find((each) => each.status === 'rejected');
    // Where one server of several is gone, the others' records are good.
    if (failed !== undefined && settled.every((each) => each.status === 'rejected')) throw failed.reason;
    throwIfAborted(options.signal);
    return settled.map((each) => (each.status === 'fulfilled' ? each.value : undefined));
  }

  async put(name: RecordName, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<PutOutcome> {
    const { signal, ttlMs, token = 0 } = options;
    this.#check(signal);
    const lengthBytes = lengthOfParts(parts);
    if (lengthBytes > this.traits.maxRecordBytes) return 'too-large';
    if (lengthBytes <= this.#chunkBytes) return this.#putItem(name, parts, 0, token, ttlMs, signal);
    const record = Buffer.concat(parts);
    const generation = randomBytes(GENERATION_BYTES);
    const puts: Promise<ItemOutcome>[] = [];
    for (let at = 0, chunk = 0; at < record.length; at += this.#chunkBytes, chunk++) {
      const key = this.#chunkKey(name, generation.toString('hex'), chunk);
      puts.push(this.#items.put(key, [record.subarray(at, at + this.#chunkBytes)], 'set', { ttlMs }, signal));
    }
    const refused = (await Promise.all(puts)).find((outcome) => outcome !== 'stored');
    if (refused !== undefined) return refused === 'too-large' ? 'too-large' : 'full';
    const manifest = Buffer.alloc(MANIFEST_BYTES);
    record.copy(manifest, 0, 0, HEAD_BYTES);
    generation.copy(manifest, HEAD_BYTES);
    manifest.writeDoubleBE(record.length, HEAD_BYTES + GENERATION_BYTES);
    return this.#putItem(name, [manifest], MANIFEST, token, ttlMs, signal);
  }

  async delete(name: RecordName, { signal }: CallOptions = {}): Promise<boolean> {
    this.#check(signal);
    const key = this.#prefix + name;
    const item = await this.#items.get(key, signal);
    const wasThere = await this.#items.delete(key, signal);
    const manifest = item === undefined ? undefined : manifestOf(item);
    if (manifest !== undefined) {
      await Promise.allSettled(this.#chunkKeys(name, manifest).map((chunk) => this.#items.delete(chunk, signal)));
    }
    return wasThere;
  }

  stats(): StoreStats {
    return {};
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#items.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #record(name: RecordName, item: Item, signal: AbortSignal | undefined): Promise<Uint8Array | undefined> {
    if (item.flags !== MANIFEST) return item.value;
    const manifest = manifestOf(item);
    if (manifest === undefined || manifest.lengthBytes > this.traits.maxRecordBytes) return undefined;
    const chunks = await Promise.all(this.#chunkKeys(name, manifest).map((key) => this.#items.get(key, signal)));
    const record = Buffer.allocUnsafeSlow(manifest.lengthBytes);
    let at = 0;
    for (const chunk of chunks) {
      if (chunk === undefined || at + chunk.value.length > record.length) return undefined;
      record.set(chunk.value, at);
      at += chunk.value.length;
    }
    return at === record.length ? record : undefined;
  }

  /** Puts the item that a record is found by; under a token only over one with a smaller or the same. */
  async #putItem(
    name: RecordName,
    value: readonly Uint8Array[],
    flags: number,
    token: number,
    ttlMs: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<PutOutcome> {
    const key = this.#prefix + name;
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const old = token === 0 ? undefined : await this.#items.get(key, signal);
      if (old !== undefined && tokenOf(old.value) > token) return 'superseded';
      const how = token === 0 ? 'set' : old === undefined ? 'add' : old.cas;
      const outcome = await this.#items.put(key, value, how, { flags, ttlMs }, signal);
      if (outcome !== 'not-stored') return outcome;
      // Another writer came between.
    }
    return 'superseded';
  }

  #chunkKeys(name: RecordName, { generation, lengthBytes }: Manifest): readonly string[] {
    return Array.from({ length: Math.ceil(lengthBytes / this.#chunkBytes) }, (_, chunk) =>
      this.#chunkKey(name, generation, chunk),
    );
  }

  #chunkKey(name: RecordName, generation: string, chunk: number): string {
    // No longer than Memcached allows, whatever the name.
    return `${this.#prefix}#${generation}.${chunk}.${name.slice(0, 150)}`;
  }

  #check(signal: AbortSignal | undefined): void {
    if (this.#closed) throw new InferkvError('ERR_INFERKV_CLOSED', 'The Memcached store is closed; make a new one.');
    throwIfAborted(signal);
  }
}

function manifestOf({ flags, value }: Item): Manifest | undefined {
  if (flags !== MANIFEST || value.length !== MANIFEST_BYTES) return undefined;
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.length);
  const lengthBytes = bytes.readDoubleBE(HEAD_BYTES + GENERATION_BYTES);
  if (!Number.isSafeInteger(lengthBytes) || lengthBytes < 0) return undefined;
  return { generation: bytes.toString('hex', HEAD_BYTES, HEAD_BYTES + GENERATION_BYTES), lengthBytes };
}

function addressOf(server: string): { readonly host: string; readonly port: number } {
  const match = /^\[?(?<host>[^\]]+?)\]?(?::(?<port>\d{1,5}))?$/.exec(server);
  if (match?.groups === undefined) {
    throw new InferkvError(
      'ERR_INFERKV_CONFIG_INVALID',
      `"${server}" is no address of a Memcached server; write host:port.`,
    );
  }
  return { host: match.groups['host'] as string, port: Number(match.groups['port'] ?? 11_211) };
}
