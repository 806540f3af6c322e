import { abortError, cancellation, orAborted, throwIfAborted } from '../base/cancellation.ts';
import type { Clock } from '../base/clock.ts';
import { InferkvError, isInferkvError, messageOf } from '../base/errors.ts';
import type { Random } from '../base/random.ts';
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
} from '../stores/store.ts';
import { tell } from '../telemetry/channels.ts';
import { Breaker, type BreakerOptions, type BreakerState } from './breaker.ts';
import { Latencies } from './latencies.ts';
import { Limiter } from './limiter.ts';
import { Speed } from './speed.ts';

/** How a store is guarded. */
export interface GuardOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Milliseconds that a read may take; 1,000 if left out. */
  readonly deadlineMs?: number | undefined;
  /** Milliseconds that a write may take; 5,000 if left out. */
  readonly writeDeadlineMs?: number | undefined;
  /** Calls at a time; 64 if left out. */
  readonly maxConcurrent?: number | undefined;
  /** Calls that wait for their turn at a time; 1,024 if left out. */
  readonly maxQueued?: number | undefined;
  readonly breaker?: BreakerOptions | undefined;
}

/** What a guard counts, besides what the store knows of itself. */
export interface GuardStats extends StoreStats {
  readonly breaker: BreakerState;
  readonly breakerOpened: number;
  /** Calls that were not made, as the breaker was open. */
  readonly fastFailures: number;
  /** Calls that were given up at their deadline. */
  readonly deadlines: number;
  /** Calls that found no place to wait. */
  readonly overloads: number;
  readonly running: number;
  readonly queued: number;
  readonly getP50Ms: number | undefined;
  readonly getP99Ms: number | undefined;
  readonly putP50Ms: number | undefined;
  readonly putP99Ms: number | undefined;
  readonly getBytesPerSecond: number | undefined;
  readonly putBytesPerSecond: number | undefined;
}

const DEFAULT_DEADLINE_MS = 1000;
const DEFAULT_WRITE_DEADLINE_MS = 5000;
const DEFAULT_CONCURRENT = 64;
const DEFAULT_QUEUED = 1024;

/** A store that cannot harm whoever calls it: deadlines, a breaker, bounds on what runs and waits, and times measured. */
export class GuardedStore implements Store {
  readonly name: string;
  readonly traits: StoreTraits;
  readonly epochs: EpochAuthority | undefined;
  readonly grants: GrantAuthority | undefined;
  /** How long reads take. */
  readonly reads: Speed = new Speed();
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #limiter: Limiter;
  readonly #breaker: Breaker;
  readonly #deadlineMs: number;
  readonly #writeDeadlineMs: number;
  readonly #writes = new Speed();
  readonly #getTimes = new Latencies();
  readonly #putTimes = new Latencies();
  #fastFailures = 0;
  #deadlines = 0;
  #closed = false;

  constructor(store: Store, options: GuardOptions) {
    const { clock, random, deadlineMs, writeDeadlineMs, maxConcurrent, maxQueued, breaker = {} } = options;
    this.name = store.name;
    this.traits = store.traits;
    this.#store = store;
    this.#clock = clock;
    this.#deadlineMs = deadlineMs ?? DEFAULT_DEADLINE_MS;
    this.#writeDeadlineMs = writeDeadlineMs ?? DEFAULT_WRITE_DEADLINE_MS;
    this.#limiter = new Limiter(maxConcurrent ?? DEFAULT_CONCURRENT, maxQueued ?? DEFAULT_QUEUED);
    this.#breaker = new Breaker(clock, random, breaker, (state) =>
      tell('inferkv:store.breaker', () => ({ store: this.name, state })),
    );
    this.epochs = store.epochs === undefined ? undefined : this.#guardEpochs(store.epochs);
    this.grants = store.grants === undefined ? undefined : this.#guardGrants(store.grants);
  }

  /** Whether a call would be refused at once. */
  get isShut(): boolean {
    return this.#breaker.isShut;
  }

  async get(name: RecordName, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    const { allocate, signal } = options;
    const start = this.#clock.now();
    const bytes = await this.#call(signal, this.#deadlineMs, (stop) =>
      this.#store.get(name, { allocate, signal: stop }),
    );
    const tookMs = this.#clock.now() - start;
    this.#getTimes.add(tookMs);
    // What is not there says how long a call takes, and nothing of bytes.
    this.reads.learn(bytes?.length ?? 0, tookMs);
    return bytes;
  }

  async getMany(names: readonly RecordName[], options: CallOptions = {}): Promise<readonly (Uint8Array | undefined)[]> {
    return this.#call(options.signal, this.#deadlineMs, (signal) => this.#store.getMany(names, { signal }));
  }

  async put(name: RecordName, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<PutOutcome> {
    const start = this.#clock.now();
    const put = (signal: AbortSignal): Promise<PutOutcome> => this.#store.put(name, parts, { ...options, signal });
    const outcome = await this.#call(options.signal, this.#writeDeadlineMs, put);
    const tookMs = this.#clock.now() - start;
    this.#putTimes.add(tookMs);
    if (outcome === 'stored') this.#writes.learn(lengthOfParts(parts), tookMs);
    return outcome;
  }

  async delete(name: RecordName, options: CallOptions = {}): Promise<boolean> {
    return this.#call(options.signal, this.#writeDeadlineMs, (signal) => this.#store.delete(name, { signal }));
  }

  stats(): GuardStats {
    return {
      ...this.#store.stats(),
      breaker: this.#breaker.state,
      breakerOpened: this.#breaker.opened,
      fastFailures: this.#fastFailures,
      deadlines: this.#deadlines,
      overloads: this.#limiter.refused,
      running: this.#limiter.running,
      queued: this.#limiter.waiting,
      getP50Ms: this.#getTimes.percentile(0.5),
      getP99Ms: this.#getTimes.percentile(0.99),
      putP50Ms: this.#putTimes.percentile(0.5),
      putP99Ms: this.#putTimes.percentile(0.99),
      getBytesPerSecond: this.reads.bytesPerSecond,
      putBytesPerSecond: this.#writes.bytesPerSecond,
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#store.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Makes a call when it is its turn; it ends at its deadline, whether the store obeys or not. */
  async #call<T>(
    signal: AbortSignal | undefined,
    deadlineMs: number,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    if (this.#closed) throw new InferkvError('ERR_INFERKV_CLOSED', `The store ${this.name} is closed; make a new one.`);
    throwIfAborted(signal);
    if (this.#breaker.isShut) throw this.#shut();
    const { signal: stop, dispose } = cancellation(signal, deadlineMs, this.#clock);
    const ending = stop as AbortSignal;
    try {
      if (!this.#limiter.tryEnter()) await this.#limiter.enter(this.name, ending);
      try {
        if (!this.#breaker.admits()) throw this.#shut();
        return await this.#judged(work, ending, signal);
      } finally {
        this.#limiter.leave();
      }
    } finally {
      dispose();
    }
  }

  /** Makes the call, and tells the breaker how it went. */
  async #judged<T>(
    work: (signal: AbortSignal) => Promise<T>,
    ending: AbortSignal,
    caller: AbortSignal | undefined,
  ): Promise<T> {
    try {
      const result = await orAborted(work(ending), ending);
      this.#breaker.succeeded();
      return result;
    } catch (error) {
      if (caller?.aborted === true) {
        this.#breaker.spared();
        throw abortError(caller);
      }
      this.#breaker.failed();
      if (ending.aborted) this.#deadlines++;
      if (isInferkvError(error)) throw error;
      throw new InferkvError('ERR_INFERKV_STORE_FAILED', `The store ${this.name} failed: ${messageOf(error)}`, {
        cause: error,
        key: this.name,
      });
    }
  }

  #shut(): InferkvError {
    this.#fastFailures++;
    return new InferkvError(
      'ERR_INFERKV_STORE_FAILED',
      `The store ${this.name} failed several times in a row and is left alone for a while; look at its server. It is tried again by itself.`,
      { key: this.name },
    );
  }

  #guardEpochs(epochs: EpochAuthority): EpochAuthority {
    const read: EpochAuthority['read'] = (scopes, options) =>
      this.#call(options?.signal, this.#deadlineMs, (signal) => epochs.read(scopes, { signal }));
    const bump: EpochAuthority['bump'] = (scopes, options) =>
      this.#call(options?.signal, this.#writeDeadlineMs, (signal) => epochs.bump(scopes, { signal }));
    if (epochs.subscribe === undefined) return { read, bump };
    return { read, bump, subscribe: (listener) => epochs.subscribe?.(listener) ?? (async () => undefined) };
  }

  #guardGrants(grants: GrantAuthority): GrantAuthority {
    const call = <T>(options: CallOptions | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> =>
      this.#call(options?.signal, this.#deadlineMs, work);
    return {
      acquire: (name, ttlMs, options) => call(options, (signal) => grants.acquire(name, ttlMs, { signal })),
      renew: (name, token, ttlMs, options) => call(options, (signal) => grants.renew(name, token, ttlMs, { signal })),
      release: (name, token, options) => call(options, (signal) => grants.release(name, token, { signal })),
    };
  }
}
