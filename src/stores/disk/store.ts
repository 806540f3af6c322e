import { resolve } from 'node:path';

import { abortError, orAborted, throwIfAborted } from '../../base/cancellation.ts';
import { systemWallClock, type WallClock } from '../../base/clock.ts';
import { InferkvError, messageOf } from '../../base/errors.ts';
import {
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
import { INLINE_BYTES } from './entry.ts';
import { openFolder, type OpenFolder } from './folder.ts';

/** What a disk store is made of. */
export interface DiskStoreOptions {
  /** A folder of its own on a local disk; made if it is not there. Several processes may use it at the same time. */
  readonly folder: string;
  /** Bytes on the disk at most; 10 GB if left out. */
  readonly budgetBytes?: number | undefined;
  /**
   * What has happened to a record when `put` settles. `process`: it survives the death of the process; `machine`: that of the
   * machine, too (a sync a write). `process` if left out.
   */
  readonly durability?: 'process' | 'machine' | undefined;
  /** The longest record, in bytes; 64 MiB and a little, or a quarter of the budget if that is less, if left out. */
  readonly maxRecordBytes?: number | undefined;
  /** Milliseconds since 1970, for expiry; the machine's if left out. */
  readonly wallClock?: WallClock | undefined;
}

const DEFAULT_BUDGET_BYTES = 10e9;
const DEFAULT_RECORD_BYTES = 65 * 2 ** 20;
const MIN_BUDGET_BYTES = 2 ** 20;
const MAX_TRIES = 3;

/**
 * Records in a folder: short ones in an LMDB index, long ones in segment files that the index knows the places of. Bounded, with
 * an eviction of its own; good for several processes at a time, and for a process that dies at any moment.
 *
 * LMDB is used by one thread: make one store of a folder in a process, in the main thread.
 */
export class DiskStore implements Store {
  readonly name = 'disk';
  readonly traits: StoreTraits;
  readonly epochs: EpochAuthority;
  readonly grants: GrantAuthority;
  readonly #folder: string;
  readonly #budgetBytes: number;
  readonly #isSynced: boolean;
  readonly #wallClock: WallClock;
  #opened: OpenFolder | undefined;
  #closed = false;

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` */
  constructor({ folder, budgetBytes = DEFAULT_BUDGET_BYTES, durability, maxRecordBytes, wallClock }: DiskStoreOptions) {
    if (folder === '' || !(budgetBytes >= MIN_BUDGET_BYTES)) {
      throw new InferkvError(
        'ERR_INFERKV_CONFIG_INVALID',
        `A disk store needs a folder and a budget of 1 MiB or more; these are ${JSON.stringify(folder)} and ${budgetBytes} bytes.`,
      );
    }
    this.#folder = resolve(folder);
    this.#budgetBytes = Math.floor(budgetBytes);
    this.#isSynced = durability === 'machine';
    this.#wallClock = wallClock ?? systemWallClock;
    const longest = Math.min(maxRecordBytes ?? DEFAULT_RECORD_BYTES, Math.floor(this.#budgetBytes / 4));
    this.traits = { maxRecordBytes: longest, persistent: true, reach: 'machine' };
    this.epochs = {
      read: async (scopes, options) => this.#ask(options, (opened) => opened.epochs.read(scopes, options)),
      bump: async (scopes, options) => this.#ask(options, (opened) => opened.epochs.bump(scopes, options)),
    };
    this.grants = {
      acquire: async (name, ttlMs, options) => this.#ask(options, ({ grants }) => grants.acquire(name, ttlMs, options)),
      renew: async (name, token, ttlMs, options) =>
        this.#ask(options, ({ grants }) => grants.renew(name, token, ttlMs, options)),
      release: async (name, token, options) => this.#ask(options, ({ grants }) => grants.release(name, token, options)),
    };
  }

  get(name: RecordName, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    return this.#ask(options, (opened) => this.#read(opened, name, options.allocate));
  }

  getMany(names: readonly RecordName[], options: CallOptions = {}): Promise<readonly (Uint8Array | undefined)[]> {
    return this.#ask(options, (opened) => Promise.all(names.map((name) => this.#read(opened, name))));
  }

  put(name: RecordName, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<PutOutcome> {
    return this.#ask(options, (opened) => this.#write(opened, name, parts, options));
  }

  delete(name: RecordName, options: CallOptions = {}): Promise<boolean> {
    return this.#ask(options, ({ records, transact }) => transact(() => records.remove(name), options));
  }

  stats(): StoreStats {
    if (this.#opened === undefined) return { budgetBytes: this.#budgetBytes };
    const { records, evictor, restored } = this.#opened;
    const { records: count, evictions } = records.facts();
    return { records: count, usedBytes: evictor.usedBytes(), budgetBytes: this.#budgetBytes, evictions, restored };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#opened?.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #read(
    opened: OpenFolder,
    name: RecordName,
    allocate: (lengthBytes: number) => Uint8Array = (lengthBytes) => Buffer.allocUnsafeSlow(lengthBytes),
  ): Promise<Uint8Array | undefined> {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const entry = opened.records.find(name);
      if (entry === undefined || entry.expiresAtMs <= this.#wallClock()) return undefined;
      if (entry.kind === 'inline') {
        const bytes = allocate(entry.record.length);
        bytes.set(entry.record);
        opened.used(name);
        return bytes;
      }
      const bytes = allocate(entry.place.lengthBytes);
      if (await opened.segments.read(entry.place, bytes)) {
        opened.used(name);
        return bytes;
      }
      // Its segment went meanwhile, and it may lie elsewhere by now.
    }
    return undefined;
  }

  async #write(
    opened: OpenFolder,
    name: RecordName,
    parts: readonly Uint8Array[],
    options: PutOptions,
  ): Promise<PutOutcome> {
    const lengthBytes = lengthOfParts(parts);
    if (lengthBytes > this.traits.maxRecordBytes) return 'too-large';
    const { ttlMs = Number.POSITIVE_INFINITY, token = 0 } = options;
    const { records, segments, transact, evictor } = opened;
    const isSuperseded = (): boolean => token > 0 && (records.find(name)?.token ?? 0) > token;
    if (isSuperseded()) return 'superseded';
    const isInline = lengthBytes <= INLINE_BYTES;
    if (evictor.isFull(lengthBytes, isInline)) {
      await evictor.makeRoom(lengthBytes);
      if (evictor.isFull(lengthBytes, isInline)) return 'full';
    }
    const expiresAtMs = this.#wallClock() + ttlMs;
    if (isInline) {
      const isStored = await transact(() => {
        if (isSuperseded()) return false;
        records.putInline(name, parts, lengthBytes, expiresAtMs, token);
        return true;
      }, options);
      if (this.#isSynced) await opened.synced();
      return isStored ? 'stored' : 'superseded';
    }
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const place = await segments.append(parts, lengthBytes, this.#isSynced);
      throwIfAborted(options.signal);
      const outcome = await transact((): PutOutcome | 'gone' => {
        if (isSuperseded()) return 'superseded';
        return records.putPlaced(name, place, expiresAtMs, token) ? 'stored' : 'gone';
      }, options);
      if (outcome !== 'gone') {
        if (this.#isSynced) await opened.synced();
        return outcome;
      }
      await segments.turn();
    }
    return 'full';
  }

  async #ask<T>(options: CallOptions = {}, ask: (opened: OpenFolder) => Promise<T>): Promise<T> {
    const { signal } = options;
    if (this.#closed) throw new InferkvError('ERR_INFERKV_CLOSED', 'The disk store is closed; make a new one.');
    throwIfAborted(signal);
    try {
      this.#opened ??= openFolder({ folder: this.#folder, budgetBytes: this.#budgetBytes, wallClock: this.#wallClock });
      return await orAborted(ask(this.#opened), signal);
    } catch (error) {
      if (error instanceof InferkvError) throw error;
      if (signal?.aborted === true) throw abortError(signal);
      throw diskError(error, this.#folder);
    }
  }
}

const ADVICE: Readonly<Record<string, string>> = {
  ENOSPC: 'The disk is full; make room, or lower budgetBytes.',
  EDQUOT: 'The quota of this user is used up.',
  EROFS: 'The disk can only be read.',
  EACCES: 'This user may not write there.',
  EMFILE: 'The process has too many files open.',
};

function diskError(error: unknown, folder: string): InferkvError {
  const advice = ADVICE[(error as NodeJS.ErrnoException).code ?? ''] ?? 'The next call tries anew.';
  return new InferkvError('ERR_INFERKV_STORE_FAILED', `The disk could not be asked: ${messageOf(error)}. ${advice}`, {
    cause: error,
    key: folder,
  });
}
