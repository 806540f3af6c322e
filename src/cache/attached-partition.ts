import { threadId, type MessagePort } from 'node:worker_threads';

import { whenAborted } from '../base/cancellation.ts';
import { systemClock, type Clock } from '../base/clock.ts';
import { InferkvError, isInferkvError } from '../base/errors.ts';
import { SharedMemoryReader } from '../stores/shared-memory/reader.ts';
import type { SharedLease } from '../stores/shared-memory/lease.ts';
import type { WritableSlab } from '../stores/shared-memory/thread-slabs.ts';
import { digestOfKey, hexOf } from './entry-digest.ts';
import { checkFacts } from './entry-facts.ts';
import { metadataOf, sealEnvelope } from './envelope.ts';
import { HeapLease, type Holding } from './holding.ts';
import type { EntryFacts, Fetched, FetchOptions, Key, Lease, Loaded } from './partition.ts';
import type { Share } from './share.ts';
import {
  receivedError,
  sentError,
  type Came,
  type FromOwner,
  type FromThread,
  type LoadedCopy,
  type SharedPartitionHandle,
} from './shared-messages.ts';
import { SingleFlight, type Landing } from './single-flight.ts';
import type { ValueCodec } from './value-codec.ts';

/** How a thread attaches to a partition. */
export interface AttachPartitionOptions {
  /** Measures loads; the machine's if left out. */
  readonly clock?: Clock;
}

type Load<V> = (signal: AbortSignal) => Promise<Loaded<V>>;

/** A wait for the owner's answer, or a load for everybody, or both. */
interface Ask<V> {
  readonly digest: Uint8Array;
  readonly load: Load<V>;
  /** Ends when nobody in any thread waits any more. */
  readonly stop: AbortController;
  readonly answer: PromiseWithResolvers<Answer<V>>;
  isWaiting: boolean;
  isLoading: boolean;
  /** What was committed, until the owner says that it has it. */
  copy: (() => LoadedCopy) | undefined;
}

interface Answer<V> extends Came {
  readonly holding: Holding<V>;
}

/**
 * A partition as a thread has it that did not make it: lookups and leases ask nobody. What does not lie there is loaded once
 * for all threads: by the first that asks, which writes it into shared memory itself; the others get it from there, even if it
 * was evicted at once or not kept at all.
 */
export class AttachedPartition<V> implements Disposable {
  readonly name: string;
  readonly #reader: SharedMemoryReader;
  readonly #port: MessagePort;
  readonly #codec: ValueCodec<V>;
  readonly #clock: Clock;
  readonly #ttlMs: number | undefined;
  readonly #maxEntryBytes: number;
  readonly #flights = new SingleFlight<Share<V>>();
  readonly #asks = new Map<number, Ask<V>>();
  readonly #pinned = new WeakMap<Holding<V>, SharedLease>();
  #lastAsk = 0;
  #closed = false;

  /** @throws InferkvError as `SharedMemoryReader.attach` */
  constructor(handle: SharedPartitionHandle, codec: ValueCodec<V>, options: AttachPartitionOptions = {}) {
    assertHandle(handle);
    this.name = handle.name;
    this.#codec = codec;
    this.#clock = options.clock ?? systemClock;
    this.#ttlMs = handle.ttlMs;
    this.#maxEntryBytes = handle.maxEntryBytes ?? Number.POSITIVE_INFINITY;
    this.#reader = SharedMemoryReader.attach(handle.memory);
    this.#port = handle.port;
    this.#port.on('message', (message: FromOwner) => this.#hear(message));
    this.#port.on('close', () => this.#lose());
    this.#port.unref();
    this.#post({ kind: 'hello', threadId });
  }

  /** Leases this thread holds. */
  get activeLeases(): number {
    return this.#reader.activeLeases;
  }

  /**
   * A hold on the value if it lies there; for this thread.
   *
   * @throws InferkvError `ERR_INFERKV_OVERLOADED` if this thread holds 256 leases, `ERR_INFERKV_CLOSED` after `close()`
   */
  lease(key: Key): Lease<V> | undefined {
    const lease = this.#reader.lease(digestOfKey(key));
    return lease === undefined ? undefined : this.#leaseOf(this.#holdingOf(lease));
  }

  /** The value, loaded by `load` if it does not lie there and no thread loads it already. */
  async fetch(
    key: Key,
    load: Load<V>,
    { signal, refresh = false }: Omit<FetchOptions, 'reserveBytes'> = {},
  ): Promise<Fetched<V>> {
    if (this.#closed) throw this.#closedError();
    const hit = refresh ? undefined : this.lease(key);
    if (hit !== undefined) return { lease: hit, status: 'hit', tier: 'memory' };
    const digest = digestOfKey(key);
    const hex = hexOf(digest);
    const joined = refresh ? undefined : this.#flights.join(hex, signal);
    const { holding, status, tier } = await (joined ??
      this.#flights.start(hex, (stop) => this.#ask(digest, load, refresh, stop), signal));
    const lease = this.#leaseOf(holding);
    holding.leases--;
    return { lease, status, tier };
  }

  /**
   * Puts a value in, out of memory that this thread was granted in advance; `false` if it had none long enough: more was
   * asked for then. The owner takes it in when it next does anything.
   *
   * @throws InferkvError `ERR_INFERKV_FACTS_INVALID`
   */
  set(key: Key, value: V, facts: EntryFacts): boolean {
    checkFacts(key, facts);
    const { tags, tenant, costMs, ttlMs = this.#ttlMs } = facts;
    const encoded = this.#codec.encode(value);
    const sealed = sealEnvelope({ tags, tenant, metadata: encoded.metadata });
    if (sealed === undefined || encoded.lengthBytes > this.#maxEntryBytes) return false;
    using slab = this.#reader.reserve(encoded.lengthBytes, sealed.length);
    if (slab === undefined) return false;
    encoded.write(slab.bytes);
    this.#reader.commit(slab, digestOfKey(key), { costMs, metadata: sealed, ...(ttlMs !== undefined && { ttlMs }) });
    return true;
  }

  /** Ends this thread's part: its waits end, what it loads for others is loaded by them. What it leases stays its own. */
  close(): void {
    if (this.#closed) return;
    this.#post({ kind: 'bye' });
    this.#lose();
    this.#reader.close();
    this.#port.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #ask(
    digest: Uint8Array,
    load: Load<V>,
    isRefresh: boolean,
    signal: AbortSignal,
  ): Promise<() => Landing<Share<V>>> {
    const number = ++this.#lastAsk;
    const ask: Ask<V> = {
      digest,
      load,
      stop: new AbortController(),
      answer: Promise.withResolvers(),
      isWaiting: true,
      isLoading: false,
      copy: undefined,
    };
    this.#asks.set(number, ask);
    // As long as an answer is awaited the thread stays alive.
    this.#port.ref();
    const stop = whenAborted(signal, (error) => {
      this.#post({ kind: 'leave', ask: number });
      ask.answer.reject(error);
      this.#stopWaiting(number, ask);
    });
    this.#post({ kind: 'ask', ask: number, digest, isRefresh });
    try {
      const { holding, status, tier } = await ask.answer.promise;
      return () => this.#landing(holding, { status, tier });
    } finally {
      stop();
    }
  }

  #landing(holding: Holding<V>, first: Came): Landing<Share<V>> {
    let came = first;
    return {
      share: () => {
        holding.leases++;
        const share: Share<V> = { holding, ...came };
        came = { status: 'joined', tier: undefined };
        return share;
      },
      done: () => {
        if (holding.leases === 0) this.#letGo(holding);
      },
    };
  }

  #hear(message: FromOwner): void {
    const ask = this.#asks.get(message.ask);
    if (message.kind === 'value') this.#take(message, ask);
    if (ask === undefined) return;
    if (message.kind === 'load') void this.#load(message.ask, ask);
    else if (message.kind === 'stop') ask.stop.abort();
    else if (message.kind === 'again' && ask.copy !== undefined) {
      this.#post({ kind: 'loaded', ask: message.ask, ...ask.copy() });
    } else if (message.kind === 'landed') {
      ask.isLoading = false;
      this.#forget(message.ask, ask);
    } else if (message.kind === 'failed') {
      ask.answer.reject(receivedError(message.error));
      this.#stopWaiting(message.ask, ask);
    } else if (message.kind === 'copied') {
      const { bytes, metadata, costMs, status, tier } = message;
      const value = this.#codec.decode(bytes, metadata);
      const holding = { value, costMs, sizeBytes: bytes.length, chargedBytes: 0, slot: -1, leases: 0 };
      ask.answer.resolve({ holding, status, tier });
      this.#stopWaiting(message.ask, ask);
    }
  }

  /** Pins a value that the owner holds for this thread, which may then let go of it. */
  #take({ ask: number, slot, status, tier }: FromOwner & { readonly kind: 'value' }, ask: Ask<V> | undefined): void {
    try {
      if (ask?.isWaiting !== true) return;
      const holding = this.#holdingOf(this.#reader.adopt(slot));
      ask.answer.resolve({ holding, status, tier });
    } catch (error) {
      ask?.answer.reject(error);
    } finally {
      this.#post({ kind: 'taken', ask: number });
      if (ask !== undefined) this.#stopWaiting(number, ask);
    }
  }

  /** Loads for everybody who waits, and writes the value where they find it. */
  async #load(number: number, ask: Ask<V>): Promise<void> {
    ask.isLoading = true;
    const start = this.#clock.now();
    let slab: WritableSlab | undefined;
    try {
      const loaded = await ask.load(ask.stop.signal);
      const { keep = true, tags, tenant, ttlMs = this.#ttlMs } = loaded;
      const costMs = loaded.costMs ?? this.#clock.now() - start;
      checkFacts(hexOf(ask.digest), { ...loaded, costMs });
      const encoded = this.#codec.encode(loaded.value);
      const { lengthBytes, metadata } = encoded;
      const sealed = sealEnvelope({ tags, tenant, metadata });
      ask.copy = () => {
        const bytes = new Uint8Array(new SharedArrayBuffer(lengthBytes));
        encoded.write(bytes);
        return { bytes, metadata, costMs, keep, sealed, ttlMs, tenant };
      };
      if (keep && sealed !== undefined && lengthBytes <= this.#maxEntryBytes) {
        slab = await this.#reserve(lengthBytes, sealed.length);
      }
      if (slab === undefined || sealed === undefined) {
        this.#post({ kind: 'loaded', ask: number, ...ask.copy() });
        return;
      }
      encoded.write(slab.bytes);
      this.#reader.commit(slab, ask.digest, { costMs, metadata: sealed, ...(ttlMs !== undefined && { ttlMs }) });
      this.#post({ kind: 'committed', ask: number });
    } catch (error) {
      slab?.abandon();
      this.#post({ kind: 'failed', ask: number, error: sentError(error) });
    }
  }

  /** Memory to write to; `undefined` where the owner has none for this thread, and may yet make room for a copy. */
  async #reserve(lengthBytes: number, metadataBytes: number): Promise<WritableSlab | undefined> {
    try {
      return await this.#reader.reserveWhenGranted(lengthBytes, { metadataBytes });
    } catch (error) {
      if (isInferkvError(error)) return undefined;
      throw error;
    }
  }

  #holdingOf(lease: SharedLease): Holding<V> {
    try {
      const value = this.#codec.decode(lease.bytes, metadataOf(lease.metadata));
      const { costMs, lengthBytes } = lease;
      const holding = { value, costMs, sizeBytes: lengthBytes, chargedBytes: 0, slot: -1, leases: 0 };
      this.#pinned.set(holding, lease);
      return holding;
    } catch (error) {
      lease.release();
      throw error;
    }
  }

  #leaseOf(holding: Holding<V>): Lease<V> {
    return new HeapLease(holding, (each) => {
      if (each.leases === 0) this.#letGo(each);
    });
  }

  #letGo(holding: Holding<V>): void {
    this.#pinned.get(holding)?.release();
  }

  #stopWaiting(number: number, ask: Ask<V>): void {
    ask.isWaiting = false;
    this.#forget(number, ask);
  }

  #forget(number: number, ask: Ask<V>): void {
    if (ask.isWaiting || ask.isLoading) return;
    this.#asks.delete(number);
    if (this.#asks.size === 0) this.#port.unref();
  }

  #post(message: FromThread): void {
    if (!this.#closed) this.#port.postMessage(message);
  }

  /** Nobody answers any more. */
  #lose(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const ask of this.#asks.values()) {
      ask.stop.abort(this.#closedError());
      ask.answer.reject(this.#closedError());
    }
    this.#asks.clear();
  }

  #closedError(): InferkvError {
    return new InferkvError(
      'ERR_INFERKV_CLOSED',
      `The partition ${this.name} is closed, or this thread's part of it.`,
      {
        key: this.name,
      },
    );
  }
}

/** @throws InferkvError `ERR_INFERKV_HANDLE_INVALID` */
function assertHandle(handle: unknown): asserts handle is SharedPartitionHandle {
  const { kind, port } = (typeof handle === 'object' && handle !== null ? handle : {}) as {
    readonly [Field in keyof SharedPartitionHandle]?: unknown;
  };
  if (kind === 'inferkv/shared-partition' && typeof (port as MessagePort | undefined)?.postMessage === 'function')
    return;
  throw new InferkvError(
    'ERR_INFERKV_HANDLE_INVALID',
    'This is no handle of a partition in shared memory; pass on what handle() gave, and its port in the transferList.',
  );
}
