import { hash } from 'node:crypto';

import { throwIfAborted } from '../../base/cancellation.ts';
import type { Clock } from '../../base/clock.ts';
import { InferkvError } from '../../base/errors.ts';
import { tokenOf } from '../record.ts';
import {
  lengthOfParts,
  type CallOptions,
  type GetOptions,
  type PutOptions,
  type PutOutcome,
  type RecordName,
  type Store,
  type StoreStats,
  type StoreTraits,
} from '../store.ts';
import type { SharedMemoryHandle } from './handle.ts';
import type { SlotPolicyFactory } from './slot-policy.ts';
import { SharedMemoryStore } from './store.ts';

/** What a store in shared memory is made of. */
export interface SharedMemoryRecordsOptions {
  /** Bytes in all: records, index and the areas of threads. */
  readonly budgetBytes: number;
  /** What leaves first. */
  readonly policy: SlotPolicyFactory;
  readonly clock?: Clock;
  /** Records there is room for in the index; one for 4 KiB of the budget if left out, at least 256. */
  readonly maxRecords?: number;
}

const BYTES_A_RECORD = 4096;
const MIN_RECORDS = 256;

/** Records in the memory of this process: a tier for what is dear to get from below, and the plainest store to begin with. Nothing waits. */
export class SharedMemoryRecords implements Store {
  readonly name = 'shared-memory';
  readonly traits: StoreTraits;
  readonly #store: SharedMemoryStore;
  #closed = false;

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`, `ERR_INFERKV_NO_ROOM` */
  constructor({ budgetBytes, policy, clock, maxRecords }: SharedMemoryRecordsOptions) {
    this.#store = SharedMemoryStore.create({
      budgetBytes,
      maxEntries: maxRecords ?? Math.max(MIN_RECORDS, Math.floor(budgetBytes / BYTES_A_RECORD)),
      policy,
      ...(clock !== undefined && { clock }),
    });
    this.traits = { maxRecordBytes: this.#store.maxEntryBytes, persistent: false, reach: 'process' };
  }

  /** What other threads need to read records in place (docs/shared-memory.md): the digest of a record is SHA-256 of its name. */
  handle(): SharedMemoryHandle {
    return this.#store.handle();
  }

  async get(name: RecordName, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    this.#check(options);
    return this.#read(name, options.allocate);
  }

  async getMany(names: readonly RecordName[], options: CallOptions = {}): Promise<readonly (Uint8Array | undefined)[]> {
    this.#check(options);
    return names.map((name) => this.#read(name));
  }

  async put(name: RecordName, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<PutOutcome> {
    this.#check(options);
    const { ttlMs, token = 0 } = options;
    const lengthBytes = lengthOfParts(parts);
    if (lengthBytes > this.traits.maxRecordBytes) return 'too-large';
    const digest = digestOf(name);
    if (token > 0 && this.#tokenAt(digest) > token) return 'superseded';
    const write = (into: Uint8Array): void => {
      let at = 0;
      for (const part of parts) {
        into.set(part, at);
        at += part.length;
      }
    };
    const isKept = this.#store.put(
      digest,
      { lengthBytes, write },
      { costMs: 0, ...(ttlMs !== undefined && { ttlMs }) },
    );
    return isKept ? 'stored' : 'full';
  }

  async delete(name: RecordName, options: CallOptions = {}): Promise<boolean> {
    this.#check(options);
    return this.#store.delete(digestOf(name));
  }

  stats(): StoreStats {
    const { entries, arenaBytes, freeBytes, evictions } = this.#store.stats();
    return { records: entries, usedBytes: arenaBytes - freeBytes, budgetBytes: arenaBytes, evictions };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#store.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #read(
    name: RecordName,
    allocate = (lengthBytes: number): Uint8Array => new Uint8Array(lengthBytes),
  ): Uint8Array | undefined {
    using lease = this.#store.lease(digestOf(name));
    if (lease === undefined) return undefined;
    const bytes = allocate(lease.lengthBytes);
    bytes.set(lease.bytes);
    return bytes;
  }

  #tokenAt(digest: Uint8Array): number {
    const slot = this.#store.slotOf(digest);
    return slot < 0 ? 0 : tokenOf(this.#store.view(slot, 'value'));
  }

  #check({ signal }: CallOptions): void {
    if (this.#closed) throw new InferkvError('ERR_INFERKV_CLOSED', 'The store is closed; make a new one.');
    throwIfAborted(signal);
  }
}

function digestOf(name: RecordName): Uint8Array {
  return hash('sha256', name, 'buffer');
}
