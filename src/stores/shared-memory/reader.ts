import { threadId } from 'node:worker_threads';

import { throwIfAborted, whenAborted } from '../../base/cancellation.ts';
import type { Clock } from '../../base/clock.ts';
import { InferkvError } from '../../base/errors.ts';
import { readDigest } from './digest.ts';
import { openHandle, type Memory, type SharedMemoryHandle } from './handle.ts';
import { HitRecorder } from './hits.ts';
import { AREA, HEADER, KEY_WORDS, SEGMENT_HEADER_UNITS, UNIT_BYTES } from './layout.ts';
import { SharedLease } from './lease.ts';
import { checkLengths } from './lengths.ts';
import { Lookup, type LookupStep } from './lookup.ts';
import { ring } from './messages.ts';
import { Pins } from './pins.ts';
import { ThreadSlabs, type SharedEntryFacts, type WritableSlab, type WriteStep } from './thread-slabs.ts';

/** How a thread attaches. */
export interface AttachOptions {
  /** `true` has memory granted to this thread before it first asks for some. */
  readonly writes?: boolean;
  /** On the timeline of the owner's clock; the machine's monotonic clock, moved to that of the owner, if left out. */
  readonly clock?: Pick<Clock, 'now'>;
  /** Told of a lease that was collected without having been released; it stays pinned. Costs some, so it is for debugging. */
  readonly onForgotten?: (digest: Uint8Array) => void;
  /** Called in the middle of things, for tests. */
  readonly onStep?: (step: LookupStep | WriteStep) => void;
}

/**
 * A store of shared memory as another thread has it: looks up, leases and writes without waiting for the owner. A worker
 * that ends for whatever reason gives back all it has once the owner hears of it (`watch` or `detach` of the store).
 */
export class SharedMemoryReader implements Disposable {
  readonly #memory: Memory;
  readonly #area: number;
  readonly #pins: Pins;
  readonly #lookup: Lookup;
  readonly #hits: HitRecorder;
  readonly #slabs: ThreadSlabs;
  readonly #now: () => number;
  readonly #forgotten: FinalizationRegistry<Uint8Array> | undefined;
  readonly #key = new Int32Array(KEY_WORDS);
  #closing = false;
  #closed = false;

  private constructor(memory: Memory, area: number, { clock, onForgotten, onStep, writes }: AttachOptions) {
    this.#memory = memory;
    this.#area = area;
    this.#now = clock === undefined ? ownersClock(memory) : () => clock.now();
    this.#pins = new Pins(memory, area, () => this.#leaveIfIdle());
    this.#lookup = new Lookup(memory, this.#pins, this.#now, onStep);
    this.#hits = new HitRecorder(memory, area);
    this.#slabs = new ThreadSlabs(memory, area, () => this.#leaveIfIdle(), onStep);
    this.#forgotten = onForgotten === undefined ? undefined : new FinalizationRegistry(onForgotten);
    if (writes === true) this.#slabs.ask(0);
  }

  /**
   * Attaches this thread to the store behind a handle.
   *
   * @throws InferkvError `ERR_INFERKV_HANDLE_INVALID` for what is no handle of this process, `ERR_INFERKV_CLOSED` if the
   * store was closed, `ERR_INFERKV_OVERLOADED` if as many threads are attached as it was made for
   */
  static attach(handle: SharedMemoryHandle, options: AttachOptions = {}): SharedMemoryReader {
    const memory = openHandle(handle);
    if (Atomics.load(memory.words, HEADER.closed) === 1) throw closedStore();
    const { areasAt, maxThreads } = memory.layout;
    for (let thread = 1; thread < maxThreads; thread++) {
      const area = areasAt + thread * AREA.words;
      // One step both takes the area and says whose it is, so that the owner can always give it back.
      if (Atomics.compareExchange(memory.words, area + AREA.state, 0, threadId + 1) !== 0) continue;
      return new SharedMemoryReader(memory, area, options);
    }
    throw new InferkvError(
      'ERR_INFERKV_OVERLOADED',
      `The shared memory store is made for ${maxThreads} threads, and as many are attached; raise maxThreads, or close() readers that are done.`,
    );
  }

  /** Leases this thread holds. */
  get activeLeases(): number {
    return this.#pins.active;
  }

  /**
   * A hold on an entry, or `undefined` if it is not there.
   *
   * @param digest the key, 32 bytes
   * @throws InferkvError `ERR_INFERKV_OVERLOADED` if this thread holds 256 leases, `ERR_INFERKV_CLOSED` after `close()`
   */
  lease(digest: Uint8Array): SharedLease | undefined {
    if (this.#closing) throw closedReader();
    const slot = this.#lookup.find(digest);
    if (slot < 0) {
      this.#hits.miss();
      return undefined;
    }
    this.#hits.hit(slot);
    const lease = new SharedLease(this.#memory, this.#pins, this.#lookup.pin, slot, this.#forgotten);
    this.#forgotten?.register(lease, Uint8Array.from(digest), lease);
    return lease;
  }

  /**
   * A hold on what lies in a slot that the owner holds for this thread, whether its entry is still there or not. Once this
   * has come back, the owner may let go of it.
   *
   * @throws InferkvError as `lease`
   */
  adopt(slot: number): SharedLease {
    if (this.#closing) throw closedReader();
    const pin = this.#pins.take();
    this.#pins.set(pin, slot);
    return new SharedLease(this.#memory, this.#pins, pin, slot);
  }

  /**
   * Memory to write a value to, out of what the owner has granted to this thread; `undefined` if there is none long enough.
   * The owner is asked for it then: try again later, or wait by `reserveWhenGranted`.
   *
   * @param metadataBytes bytes of metadata that the commit will bring
   * @throws InferkvError `ERR_INFERKV_BUDGET_EXCEEDED` if no segment is that long, `ERR_INFERKV_INPUT_INVALID` for lengths
   * that cannot be
   */
  reserve(lengthBytes: number, metadataBytes: number = 0): WritableSlab | undefined {
    if (this.#closing) throw closedReader();
    if (Atomics.load(this.#memory.words, HEADER.closed) === 1) throw closedStore();
    this.#assertFits(lengthBytes, metadataBytes);
    return this.#slabs.reserve(lengthBytes, metadataBytes);
  }

  /**
   * Like `reserve`, and waits for the owner's grant.
   *
   * @throws InferkvError `ERR_INFERKV_NO_ROOM` if the owner has no room for it, or what the signal says
   */
  async reserveWhenGranted(
    lengthBytes: number,
    { metadataBytes = 0, signal }: { readonly metadataBytes?: number; readonly signal?: AbortSignal } = {},
  ): Promise<WritableSlab> {
    const { words } = this.#memory;
    const refusals = Atomics.load(words, this.#area + AREA.refusals);
    for (;;) {
      throwIfAborted(signal);
      const turn = Atomics.load(words, this.#area + AREA.grantTurn);
      const slab = this.reserve(lengthBytes, metadataBytes);
      if (slab !== undefined) return slab;
      if (Atomics.load(words, this.#area + AREA.refusals) !== refusals) {
        throw new InferkvError(
          'ERR_INFERKV_NO_ROOM',
          `The shared memory store has no room for ${lengthBytes} bytes now; release leases, commit or abandon slabs, or raise its budget.`,
        );
      }
      await this.#nextAnswer(turn, signal);
    }
  }

  /**
   * Hands a written slab to the owner, who puts it into the index when it next does anything. Not to be written to any more.
   *
   * @param lengthBytes how much of the slab is the value; all of it if left out
   * @throws InferkvError `ERR_INFERKV_INPUT_INVALID` if the metadata does not fit or the slab has ended
   */
  commit(
    slab: WritableSlab,
    digest: Uint8Array,
    facts: SharedEntryFacts,
    lengthBytes: number = slab.bytes.length,
  ): void {
    readDigest(digest, this.#key);
    const expiresAt = facts.ttlMs === undefined ? Number.POSITIVE_INFINITY : this.#now() + facts.ttlMs;
    this.#slabs.commit(slab, this.#key, lengthBytes, facts, expiresAt);
  }

  /** Ends this thread's part. What it still leases or writes stays its own until it is released, committed or abandoned. */
  close(): void {
    this.#closing = true;
    this.#leaveIfIdle();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #leaveIfIdle(): void {
    if (!this.#closing || this.#closed || this.#pins.active > 0 || this.#slabs.outstanding > 0) return;
    this.#closed = true;
    Atomics.store(this.#memory.words, this.#area + AREA.state, -(threadId + 1));
    ring(this.#memory);
  }

  #assertFits(lengthBytes: number, metadataBytes: number): void {
    const segment = this.#memory.segments[0]?.byteLength ?? 0;
    const maxBytes = segment - SEGMENT_HEADER_UNITS * UNIT_BYTES;
    if (!(lengthBytes >= 0 && lengthBytes + metadataBytes <= maxBytes)) {
      throw new InferkvError(
        'ERR_INFERKV_BUDGET_EXCEEDED',
        `${lengthBytes} bytes, with ${metadataBytes} of metadata, were to be reserved and an entry can take 0 to ${maxBytes}; make the store with larger segments.`,
      );
    }
    checkLengths(lengthBytes, metadataBytes);
  }

  async #nextAnswer(turn: number, signal: AbortSignal | undefined): Promise<void> {
    const { words } = this.#memory;
    const answer = Atomics.waitAsync(words, this.#area + AREA.grantTurn, turn);
    if (!answer.async) return;
    if (signal === undefined) return void (await answer.value);
    const aborted = Promise.withResolvers<never>();
    const stop = whenAborted(signal, aborted.reject);
    await Promise.race([answer.value, aborted.promise]).finally(stop);
  }
}

/** The owner's clock in this thread, whose own monotonic clock began at another time. */
function ownersClock({ doubles }: Memory): () => number {
  const shift = (doubles[HEADER.clockShift >> 1] as number) + monotonicMs() - performance.now();
  return () => performance.now() + shift;
}

/** Milliseconds of the clock that all threads of a process have in common. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

function closedStore(): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_CLOSED',
    'The shared memory store is closed; make a new one and pass on its handle.',
  );
}

function closedReader(): InferkvError {
  return new InferkvError('ERR_INFERKV_CLOSED', 'This reader of the shared memory store is closed; attach again.');
}
