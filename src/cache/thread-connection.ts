import type { MessagePort } from 'node:worker_threads';

import { whenAborted } from '../base/cancellation.ts';
import type { Holding } from './holding.ts';
import type { Share } from './share.ts';
import {
  receivedError,
  sentError,
  type CopiedValue,
  type FromOwner,
  type FromThread,
  type LoadedCopy,
} from './shared-messages.ts';
import type { Loader } from './shared-flights.ts';
import type { Landing } from './single-flight.ts';

/** What a connection needs of the partition it leads to. */
export interface ConnectedPartition<V> {
  share(digest: Uint8Array, loader: Loader<Share<V>>, isRefresh: boolean): Promise<Share<V>>;
  unshare(share: Share<V>): void;
  /** Holds whatever comes to lie under a key from now on, so that it is there when its writer says that it wrote it. */
  expect(digest: Uint8Array): Expected<V>;
  /** Takes in what a thread sent besides the arena. */
  landCopy(digest: Uint8Array, copy: LoadedCopy): Landing<Share<V>>;
  /** The value as another thread can read it, where it does not lie in the arena. */
  copyOf(holding: Holding<V>): CopiedValue;
  /** The thread has ended without saying so. */
  detach(threadId: number): void;
}

/** An entry that is awaited from another thread. */
export interface Expected<V> {
  /** What has come, as a landing; `undefined` if nothing has. Ends the wait. */
  land(): Landing<Share<V>> | undefined;
  drop(): void;
}

interface Ask<V> {
  readonly controller: AbortController;
  /** Held until the thread has pinned it itself. */
  share: Share<V> | undefined;
}

type LoadReply = Extract<FromThread, { readonly kind: 'committed' | 'loaded' | 'failed' }>;

/** The owner's end of the line to one attached thread: what that thread waits for, and what it loads for others. */
export class ThreadConnection<V> {
  readonly #partition: ConnectedPartition<V>;
  readonly #port: MessagePort;
  readonly #asks = new Map<number, Ask<V>>();
  readonly #loads = new Map<number, (reply: LoadReply | undefined) => void>();
  #threadId: number | undefined;
  #ended = false;

  constructor(partition: ConnectedPartition<V>, port: MessagePort) {
    this.#partition = partition;
    this.#port = port;
    port.on('message', (message: FromThread) => this.#hear(message));
    port.on('close', () => this.#end());
    port.unref();
  }

  #hear(message: FromThread): void {
    if (message.kind === 'hello') this.#threadId = message.threadId;
    else if (message.kind === 'bye') this.#threadId = undefined;
    else if (message.kind === 'ask') void this.#answer(message.ask, message.digest, message.isRefresh);
    else if (message.kind === 'leave') this.#asks.get(message.ask)?.controller.abort();
    else if (message.kind === 'taken') this.#letGo(message.ask);
    else this.#loads.get(message.ask)?.(message);
  }

  async #answer(ask: number, digest: Uint8Array, isRefresh: boolean): Promise<void> {
    const controller = new AbortController();
    const waiting: Ask<V> = { controller, share: undefined };
    this.#asks.set(ask, waiting);
    const loader: Loader<Share<V>> = {
      signal: controller.signal,
      load: (signal) => this.#load(ask, digest, signal),
    };
    try {
      const share = await this.#partition.share(digest, loader, isRefresh);
      waiting.share = share;
      // It left, or ended, in this very moment.
      if (controller.signal.aborted) this.#letGo(ask);
      else this.#send(ask, share);
    } catch (error) {
      this.#asks.delete(ask);
      if (!controller.signal.aborted) this.#post({ kind: 'failed', ask, error: sentError(error) });
    }
  }

  #send(ask: number, share: Share<V>): void {
    const { holding, status, tier } = share;
    if (holding.slot >= 0) {
      this.#post({ kind: 'value', ask, slot: holding.slot, status, tier });
      return;
    }
    this.#post({ kind: 'copied', ask, status, tier, ...this.#partition.copyOf(holding) });
    this.#letGo(ask);
  }

  /** Has the thread load; `undefined` if it ends before it is done. */
  async #load(ask: number, digest: Uint8Array, signal: AbortSignal): Promise<(() => Landing<Share<V>>) | undefined> {
    if (this.#ended) return undefined;
    const expected = this.#partition.expect(digest);
    const stop = whenAborted(signal, () => this.#post({ kind: 'stop', ask }));
    try {
      this.#post({ kind: 'load', ask });
      let reply = await this.#reply(ask);
      if (reply?.kind === 'committed') {
        const landing = expected.land();
        if (landing !== undefined) return () => landing;
        this.#post({ kind: 'again', ask });
        reply = await this.#reply(ask);
      }
      if (reply === undefined) return undefined;
      if (reply.kind === 'failed') throw receivedError(reply.error);
      const copy = reply;
      return copy.kind === 'loaded' ? () => this.#partition.landCopy(digest, copy) : undefined;
    } finally {
      stop();
      expected.drop();
      this.#post({ kind: 'landed', ask });
    }
  }

  #reply(ask: number): Promise<LoadReply | undefined> {
    if (this.#ended) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#loads.set(ask, (reply) => {
        this.#loads.delete(ask);
        resolve(reply);
      });
    });
  }

  #letGo(ask: number): void {
    const share = this.#asks.get(ask)?.share;
    this.#asks.delete(ask);
    if (share !== undefined) this.#partition.unshare(share);
  }

  #post(message: FromOwner): void {
    if (!this.#ended) this.#port.postMessage(message);
  }

  /** The thread has ended, or has closed its end: its waits end, and what it was loading is loaded by the next. */
  #end(): void {
    this.#ended = true;
    for (const [ask, { controller }] of this.#asks) {
      controller.abort();
      this.#letGo(ask);
    }
    for (const settle of this.#loads.values()) settle(undefined);
    if (this.#threadId !== undefined) this.#partition.detach(this.#threadId);
  }
}
