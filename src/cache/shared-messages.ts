/** What a partition in shared memory and the threads attached to it say to each other. Lookups say nothing; loads do. */
import type { MessagePort } from 'node:worker_threads';

import { InferkvError, isInferkvError, messageOf, type ErrorCode } from '../base/errors.ts';
import type { SharedMemoryHandle } from '../stores/shared-memory/handle.ts';
import type { FetchStatus, TierName } from './partition.ts';

/** What one other thread needs to attach to a partition. Its `port` goes into the `transferList` of the message or worker. */
export interface SharedPartitionHandle {
  readonly kind: 'inferkv/shared-partition';
  readonly name: string;
  readonly memory: SharedMemoryHandle;
  readonly port: MessagePort;
  readonly ttlMs: number | undefined;
  readonly maxEntryBytes: number | undefined;
}

/** A value on its way besides the arena, for it was not kept. */
export interface CopiedValue {
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  readonly metadata: Uint8Array;
  readonly costMs: number;
}

/** An error as it goes from thread to thread. */
export interface SentError {
  readonly code: ErrorCode | undefined;
  readonly message: string;
  readonly key: string | undefined;
}

/**
 * From an attached thread. `ask` numbers a wait of that thread for one key; `leave` ends it, `taken` says that the thread has
 * pinned the value itself. The others are about a load that the thread was told to do.
 */
export type FromThread =
  | { readonly kind: 'hello'; readonly threadId: number }
  | { readonly kind: 'bye' }
  | { readonly kind: 'ask'; readonly ask: number; readonly digest: Uint8Array; readonly isRefresh: boolean }
  | { readonly kind: 'leave'; readonly ask: number }
  | { readonly kind: 'taken'; readonly ask: number }
  | { readonly kind: 'committed'; readonly ask: number }
  | ({ readonly kind: 'loaded'; readonly ask: number } & LoadedCopy)
  | { readonly kind: 'failed'; readonly ask: number; readonly error: SentError };

/** What a thread loaded and could not, or was not to, write into the arena. */
export interface LoadedCopy extends CopiedValue {
  readonly keep: boolean;
  readonly sealed: Uint8Array | undefined;
  readonly ttlMs: number | undefined;
  readonly tenant: string | undefined;
}

/**
 * From the owner. `value` answers an `ask` by the slot it holds until `taken`, `copied` by the value itself. `load` tells the
 * thread to load for everybody, `stop` that nobody waits for that any more, `again` that what it committed was not kept and is
 * wanted as a copy, `landed` that its load is over.
 */
export type FromOwner =
  | ({ readonly kind: 'value'; readonly ask: number; readonly slot: number } & Came)
  | ({ readonly kind: 'copied'; readonly ask: number } & Came & CopiedValue)
  | { readonly kind: 'load' | 'stop' | 'again' | 'landed'; readonly ask: number }
  | { readonly kind: 'failed'; readonly ask: number; readonly error: SentError };

/** How a value came about. */
export interface Came {
  readonly status: FetchStatus;
  readonly tier: TierName | undefined;
}

/** An error to be sent. */
export function sentError(error: unknown): SentError {
  const ours = isInferkvError(error) ? error : undefined;
  return { code: ours?.code, message: messageOf(error), key: ours?.key };
}

/** An error that was sent. */
export function receivedError({ code, message, key }: SentError): Error {
  if (code === undefined) return new Error(message);
  return new InferkvError(code, message, key === undefined ? {} : { key });
}
