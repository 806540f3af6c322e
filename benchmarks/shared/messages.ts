import { Worker } from 'node:worker_threads';

import type { SharedMemoryHandle } from '../../src/stores/shared-memory/handle.ts';

/** What a thread is made with. */
export interface ThreadSetup {
  readonly handle: SharedMemoryHandle;
  /** Keys of entries that are there all the time. */
  readonly keys: number;
}

/** Leases timed one by one; bare leases as fast as they go; reading and checking every byte; writing. */
export type Order =
  | { readonly do: 'latency'; readonly samples: number }
  | { readonly do: 'throughput'; readonly forMs: number }
  | { readonly do: 'check'; readonly forMs: number; readonly keys: number; readonly seed: number }
  | {
      readonly do: 'write';
      readonly forMs: number;
      readonly keys: number;
      readonly seed: number;
      readonly maxBytes: number;
    };

/** What a thread has measured. */
export interface Measured {
  /** Microseconds of single leases. */
  readonly us?: Float64Array;
  readonly perS?: number;
  /** A second of the thread's own time on a processor, which others that run on the machine take nothing from. */
  readonly perCpuS?: number;
  readonly operations?: number;
  readonly bytes?: number;
  readonly torn?: number;
}

/** A thread that does what it is told, one order at a time. */
export class BenchThread {
  readonly #worker: Worker;
  readonly #begun: Promise<void>;

  constructor(setup: ThreadSetup) {
    this.#worker = new Worker(new URL('./thread.ts', import.meta.url), { workerData: setup });
    this.#begun = new Promise((resolve, reject) => {
      this.#worker.once('message', () => resolve());
      this.#worker.once('error', reject);
    });
  }

  /** For the store, which takes back what the thread had. */
  get worker(): Worker {
    return this.#worker;
  }

  async ask(order: Order): Promise<Measured> {
    await this.#begun;
    return new Promise((resolve, reject) => {
      const failed = (error: Error): void => reject(error);
      this.#worker.once('error', failed);
      this.#worker.once('message', (measured: Measured) => {
        this.#worker.off('error', failed);
        resolve(measured);
      });
      this.#worker.postMessage(order);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}
