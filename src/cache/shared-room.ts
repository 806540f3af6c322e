import { formatBytes } from '../base/bytes.ts';
import { throwIfAborted, whenAborted } from '../base/cancellation.ts';
import type { Clock } from '../base/clock.ts';
import { InferkvError } from '../base/errors.ts';
import type { OwnerSlab } from '../stores/shared-memory/owner-slab.ts';
import type { SharedMemoryStore } from '../stores/shared-memory/store.ts';

interface Waiter {
  readonly lengthBytes: number;
  readonly resolve: (slab: OwnerSlab) => void;
  readonly reject: (error: Error) => void;
}

// Nobody tells the owner when another thread releases what has left, so whoever waits looks again.
const LOOK_AGAIN_MS = 20;

/** Memory set aside for values that are still being loaded, and those who wait for some. Served in their order. */
export class SharedRoom {
  readonly #store: SharedMemoryStore;
  readonly #clock: Clock;
  readonly #waiters = new Set<Waiter>();
  #isTimed = false;
  #pumping = false;
  #closed: InferkvError | undefined;

  constructor(store: SharedMemoryStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /**
   * Sets memory aside, waiting for it until the signal ends that.
   *
   * @throws InferkvError `ERR_INFERKV_BUDGET_EXCEEDED` for more than an entry can have, what the signal says, or what
   * `close` was told
   */
  async take(lengthBytes: number, signal: AbortSignal): Promise<OwnerSlab> {
    if (this.#closed !== undefined) throw this.#closed;
    const { maxEntryBytes } = this.#store;
    if (lengthBytes > maxEntryBytes) {
      throw new InferkvError(
        'ERR_INFERKV_BUDGET_EXCEEDED',
        `${formatBytes(lengthBytes)} are needed and an entry can have ${formatBytes(maxEntryBytes)}; raise the budget or use less.`,
      );
    }
    throwIfAborted(signal);
    const slab = this.#store.reserve(lengthBytes, 0);
    if (slab !== undefined) return slab;
    return new Promise<OwnerSlab>((resolve, reject) => {
      const stop = whenAborted(signal, (reason) => {
        this.#waiters.delete(waiter);
        reject(reason);
      });
      const waiter: Waiter = {
        lengthBytes,
        resolve: (given) => {
          stop();
          resolve(given);
        },
        reject: (error) => {
          stop();
          reject(error);
        },
      };
      this.#waiters.add(waiter);
      this.#lookAgain();
    });
  }

  /** Serves those who wait as far as there is room; to be called when something has become free. */
  pump(): void {
    if (this.#pumping || this.#waiters.size === 0) return;
    this.#pumping = true;
    try {
      for (const waiter of this.#waiters) {
        const slab = this.#store.reserve(waiter.lengthBytes, 0);
        if (slab === undefined) continue;
        this.#waiters.delete(waiter);
        waiter.resolve(slab);
      }
    } finally {
      this.#pumping = false;
    }
  }

  /** Ends every wait, as there will be no room any more. */
  close(error: InferkvError): void {
    this.#closed = error;
    for (const waiter of this.#waiters) waiter.reject(error);
    this.#waiters.clear();
  }

  #lookAgain(): void {
    if (this.#isTimed) return;
    this.#isTimed = true;
    this.#clock.after(LOOK_AGAIN_MS, () => {
      this.#isTimed = false;
      this.pump();
      if (this.#waiters.size > 0) this.#lookAgain();
    });
  }
}
