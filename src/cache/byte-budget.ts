import { InferkvError } from '../base/errors.ts';
import { formatBytes } from '../base/bytes.ts';
import { invariant } from '../base/assertions.ts';
import { throwIfAborted, whenAborted } from '../base/cancellation.ts';

/** Where a budget turns to when bytes are short. */
export interface Evictor {
  /** Bytes of entries that could be evicted now: neither leased nor already leaving. */
  readonly evictableBytes: number;
  /** Evicts one entry to make room for so many bytes; `false` if there is none to evict. */
  evictOne(forBytes: number): boolean;
}

interface Waiter {
  readonly bytes: number;
  readonly resolve: () => void;
}

/**
 * Keeps a sum of bytes within a limit: bytes are taken before they are used, and given back when they are free.
 *
 * ```
 *   |<------------------------- limit ------------------------->|
 *   |<------------- used ------------>|
 *   | entries | reserved | releasing* |          free           |    * evicted, its owner is still freeing it
 * ```
 *
 * Whoever cannot be served at once may wait. Waiters are served in their order, each as soon as there is room for it; a
 * newcomer that fits without evicting anything does not wait behind them, so one large load does not stop small ones.
 */
export class ByteBudget {
  readonly limitBytes: number;
  readonly #evictor: Evictor;
  readonly #waiters = new Set<Waiter>();
  #usedBytes = 0;
  #releasingBytes = 0;
  #pumping = false;

  constructor(limitBytes: number, evictor: Evictor) {
    this.limitBytes = limitBytes;
    this.#evictor = evictor;
  }

  /** Bytes taken and not given back. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Takes bytes if there is room, evicting for it where that is enough; evicts nothing where it is not. */
  tryTake(bytes: number): boolean {
    if (this.#usedBytes + bytes > this.limitBytes) this.#makeRoom(bytes);
    if (this.#usedBytes + bytes > this.limitBytes) return false;
    this.#usedBytes += bytes;
    return true;
  }

  /**
   * Takes bytes, waiting for room until the signal ends it.
   *
   * @throws InferkvError `ERR_INFERKV_BUDGET_EXCEEDED` if the bytes can never fit, or what the signal says
   */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    this.assertFits(bytes);
    throwIfAborted(signal);
    if (this.tryTake(bytes)) return;
    await new Promise<void>((resolve, reject) => {
      const stop = whenAborted(signal, (reason) => {
        this.#waiters.delete(waiter);
        reject(reason);
      });
      const waiter: Waiter = {
        bytes,
        resolve: () => {
          stop();
          resolve();
        },
      };
      this.#waiters.add(waiter);
    });
  }

  /** @throws InferkvError `ERR_INFERKV_BUDGET_EXCEEDED` for more bytes than the whole budget. */
  assertFits(bytes: number): void {
    if (bytes <= this.limitBytes) return;
    throw new InferkvError(
      'ERR_INFERKV_BUDGET_EXCEEDED',
      `${formatBytes(bytes)} are needed and the whole budget is ${formatBytes(this.limitBytes)}; raise the budget or use less.`,
    );
  }

  /** Charges a correction that is already a fact, evicting others for it; the budget may stay exceeded until leases end. */
  correct(deltaBytes: number): void {
    this.#usedBytes += deltaBytes;
    invariant(this.#usedBytes >= 0, 'more bytes given back than taken');
    if (deltaBytes > 0) this.#payBack(deltaBytes);
    else this.pump();
  }

  /** Notes that taken bytes will come back soon, so that nothing more is evicted for them. */
  expect(bytes: number): void {
    this.#releasingBytes += bytes;
  }

  /** Gives bytes back; `expected` if `expect` announced them. */
  give(bytes: number, expected: boolean): void {
    this.#usedBytes -= bytes;
    if (expected) this.#releasingBytes -= bytes;
    invariant(this.#usedBytes >= 0 && this.#releasingBytes >= 0, 'more bytes given back than taken');
    this.pump();
  }

  /** Serves waiters as far as there is room; called when bytes came back or an entry became evictable. */
  pump(): void {
    if (this.#pumping || (this.#waiters.size === 0 && this.#usedBytes <= this.limitBytes)) return;
    this.#pumping = true;
    try {
      // A correction may have left the budget exceeded; what became evictable since then pays for that first.
      this.#payBack(0);
      for (const waiter of this.#waiters) {
        if (!this.tryTake(waiter.bytes)) continue;
        this.#waiters.delete(waiter);
        waiter.resolve();
      }
    } finally {
      this.#pumping = false;
    }
  }

  #makeRoom(bytes: number): void {
    if (this.#shortBytes(bytes) > this.#evictor.evictableBytes) return;
    while (this.#shortBytes(bytes) > 0 && this.#evictor.evictOne(bytes));
  }

  /** Evicts for what is charged already; `forBytes` is what it was charged for. */
  #payBack(forBytes: number): void {
    while (this.#shortBytes(0) > 0 && this.#evictor.evictOne(forBytes));
  }

  #shortBytes(bytes: number): number {
    return this.#usedBytes - this.#releasingBytes + bytes - this.limitBytes;
  }
}
