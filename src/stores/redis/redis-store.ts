import { InferkvError } from '../../base/errors.ts';
import {
  isRecordName,
  lengthOfParts,
  type CallOptions,
  type EpochAuthority,
  type GetOptions,
  type GrantAuthority,
  type PutOptions,
  type PutOutcome,
  type RecordName,
  type Store,
  type StoreStats,
  type StoreTraits,
} from '../store.ts';
import { BatchReader } from './batch-reader.ts';
import { Calls } from './calls.ts';
import type { RedisClient } from './client.ts';
import { RedisEpochs } from './epochs.ts';
import { faultOf } from './faults.ts';
import { RedisGrants } from './grants.ts';
import type { RedisSettings } from './options.ts';

/** Memory that holds more than this besides a record is not kept for it. */
const MAX_WASTE_BYTES = 1024;
const ALIGNMENT = 8;

/** Records as strings of Redis: one key each, written and read as a whole. */
export class RedisStore implements Store {
  readonly name: string;
  readonly traits: StoreTraits;
  readonly epochs: EpochAuthority;
  readonly grants: GrantAuthority;
  readonly #settings: RedisSettings;
  readonly #calls: Calls;
  readonly #epochs: RedisEpochs;
  readonly #batches = new BatchReader();
  readonly #prefix: string;

  constructor(settings: RedisSettings) {
    this.name = settings.name;
    this.traits = { maxRecordBytes: settings.maxRecordBytes, persistent: true, reach: 'network' };
    this.#settings = settings;
    this.#calls = new Calls(settings);
    this.#epochs = new RedisEpochs(this.#calls);
    this.epochs = this.#epochs;
    this.grants = new RedisGrants(this.#calls);
    this.#prefix = `${settings.keyPrefix}r:`;
  }

  async get(name: RecordName, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    const key = this.#key(name);
    const answer = await this.#calls.run((client) => client.getBuffer(key), {
      signal: options.signal,
      isRepeatable: true,
    });
    return this.#record(answer, options.allocate);
  }

  async getMany(names: readonly RecordName[], options: CallOptions = {}): Promise<readonly (Uint8Array | undefined)[]> {
    if (names.length === 0) return [];
    const keys = names.map((name) => this.#key(name));
    const { signal } = options;
    const ask = (client: RedisClient): Promise<readonly unknown[]> => this.#batches.read(client, keys, signal);
    const answers = await this.#calls.run(ask, { signal, isRepeatable: true });
    return answers.map((answer) => this.#record(answer));
  }

  async put(name: RecordName, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<PutOutcome> {
    const key = this.#key(name);
    const lengthBytes = lengthOfParts(parts);
    if (lengthBytes > this.#settings.maxRecordBytes) return 'too-large';
    const expiry = expiryOf(options.ttlMs);
    let answer: unknown;
    // A copy even of one part: a Cluster may send it again when the caller has got its bytes back.
    let value: Buffer | undefined;
    const write = (client: RedisClient): Promise<unknown> => {
      value ??= Buffer.concat(parts, lengthBytes);
      if (options.token !== undefined && options.token > 0) {
        return client.inferkvPut(key, value, tokenBytes(options.token), expiry?.toFixed(0) ?? '');
      }
      return expiry === undefined ? client.set(key, value) : client.set(key, value, 'PX', expiry);
    };
    try {
      answer = await this.#calls.run(write, { signal: options.signal, lengthBytes });
    } catch (error) {
      if (error instanceof InferkvError && faultOf(error.cause) === 'full') return 'full';
      throw error;
    }
    if (answer === 0) return 'superseded';
    if (answer !== 'OK' && answer !== 1) throw this.#calls.nonsense('SET');
    return 'stored';
  }

  async delete(name: RecordName, options: CallOptions = {}): Promise<boolean> {
    const key = this.#key(name);
    const answer = await this.#calls.run((client) => client.unlink(key), options);
    if (answer !== 0 && answer !== 1) throw this.#calls.nonsense('UNLINK');
    return answer === 1;
  }

  /** What the server holds is not asked for: it may be shared with others, and counting it takes long. */
  stats(): StoreStats {
    return {};
  }

  async close(): Promise<void> {
    await Promise.all([this.#epochs.close(), this.#calls.close()]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #key(name: RecordName): string {
    if (!isRecordName(name)) {
      throw new InferkvError(
        'ERR_INFERKV_INPUT_INVALID',
        'A record is called by 1 to 200 printable ASCII characters.',
        {
          key: name,
        },
      );
    }
    return this.#prefix + name;
  }

  #record(answer: unknown, allocate?: GetOptions['allocate']): Uint8Array | undefined {
    if (answer === null) return undefined;
    if (!Buffer.isBuffer(answer)) throw this.#calls.nonsense('GET');
    return ownedBytes(answer, allocate);
  }
}

/** The answer's memory where it is the record's alone. A short one is a view of what the socket read, at any offset, and would keep all of that. */
function ownedBytes(answer: Buffer, allocate?: GetOptions['allocate']): Uint8Array {
  const { buffer, byteOffset, byteLength } = answer;
  if (byteOffset % ALIGNMENT === 0 && buffer.byteLength - byteLength <= MAX_WASTE_BYTES) {
    return new Uint8Array(buffer, byteOffset, byteLength);
  }
  const memory = allocate?.(byteLength) ?? new Uint8Array(byteLength);
  memory.set(answer);
  return memory;
}

function expiryOf(ttlMs = Number.POSITIVE_INFINITY): number | undefined {
  if (ttlMs > Number.MAX_SAFE_INTEGER / 2) return undefined;
  return Math.max(1, Math.ceil(ttlMs));
}

function tokenBytes(token: number): Buffer {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64BE(BigInt(token));
  return bytes;
}
