import { Worker } from 'node:worker_threads';

import { InferkvError } from '../../base/errors.ts';
import { workerEntry } from '../../base/worker-entry.ts';
import type { UseListener } from '../../telemetry/use-listener.ts';
import { UseFilter } from './use-filter.ts';
import type { FromWhatIf, ToWhatIf } from './what-if-messages.ts';
import { WhatIfCaches, type WhatIfEstimate, type WhatIfOptions } from './what-if.ts';

/** Batches that may be on their way: past it they are dropped, which costs precision and nothing else. */
const MOST_UNDER_WAY = 8;

/** What a live what-if tells. */
export interface LiveEstimates {
  readonly estimates: readonly WhatIfEstimate[];
  /** Batches that were dropped, as they came faster than they were replayed; their uses count nowhere. */
  readonly droppedBatches: number;
}

/**
 * A what-if for running traffic: the thread that serves only picks the uses of the sample, a thread of its own replays them. That
 * begins with the first uses, and keeps no process alive.
 */
export class LiveWhatIf implements UseListener {
  readonly #options: WhatIfOptions;
  readonly #filter: UseFilter;
  readonly #answers = new Map<number, PromiseWithResolvers<readonly WhatIfEstimate[]>>();
  #worker: Worker | undefined;
  #underWay = 0;
  #dropped = 0;
  #asked = 0;
  #closed = false;

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`, `ERR_INFERKV_POLICY_UNKNOWN` */
  constructor(options: WhatIfOptions) {
    // What is wrong with the options is to show here, not in a thread.
    void new WhatIfCaches(options);
    this.#options = options;
    this.#filter = new UseFilter(options.seed, (batch) => {
      if (this.#closed || this.#underWay >= MOST_UNDER_WAY) {
        this.#dropped++;
        batch.clear();
        return;
      }
      this.#underWay++;
      const uses = batch.take();
      const { hashes, sizes, costs, flags } = uses;
      this.#thread().postMessage({ kind: 'uses', uses } satisfies ToWhatIf, [
        hashes.buffer,
        sizes.buffer,
        costs.buffer,
        flags.buffer,
      ]);
    });
  }

  wants(identity: number): boolean {
    return this.#filter.wants(identity);
  }

  used(key: string, identity: number, sizeBytes: number, costMs: number): void {
    this.#filter.used(key, identity, sizeBytes, costMs);
  }

  usedChain(keys: readonly string[], identities: ArrayLike<number>, sizeBytes: number, costMs: number): void {
    this.#filter.usedChain(keys, identities, sizeBytes, costMs);
  }

  /**
   * What each cache would have given since the beginning, or since `reset`: budgets within policies, as they were given.
   *
   * @throws InferkvError `ERR_INFERKV_CLOSED`
   */
  async estimates(): Promise<LiveEstimates> {
    if (this.#closed) throw closedError();
    this.#filter.flush();
    const answer = Promise.withResolvers<readonly WhatIfEstimate[]>();
    const number = ++this.#asked;
    this.#answers.set(number, answer);
    const thread = this.#thread();
    // Somebody waits, so the process goes on until the answer is there.
    thread.ref();
    thread.postMessage({ kind: 'estimates', number } satisfies ToWhatIf);
    return { estimates: await answer.promise, droppedBatches: this.#dropped };
  }

  /** Begins to count anew; what lies in the caches stays. */
  reset(): void {
    this.#filter.flush();
    this.#dropped = 0;
    if (!this.#closed) this.#thread().postMessage({ kind: 'reset' } satisfies ToWhatIf);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#lose();
    await this.#worker?.terminate();
  }

  #thread(): Worker {
    if (this.#worker !== undefined) return this.#worker;
    const worker = new Worker(workerEntry(import.meta.url, './what-if-worker'), { workerData: this.#options });
    worker.unref();
    worker.on('message', (message: FromWhatIf) => this.#hear(worker, message));
    worker.on('error', () => undefined);
    worker.on('exit', () => {
      // The next batch starts another, which knows nothing of the past.
      if (this.#worker === worker) this.#worker = undefined;
      this.#underWay = 0;
      this.#lose();
    });
    this.#worker = worker;
    return worker;
  }

  #hear(worker: Worker, message: FromWhatIf): void {
    if (message.kind === 'picks') {
      this.#underWay--;
      this.#filter.follow(message.picks);
      return;
    }
    this.#answers.get(message.number)?.resolve(message.estimates);
    this.#answers.delete(message.number);
    if (this.#answers.size === 0) worker.unref();
  }

  #lose(): void {
    for (const answer of this.#answers.values()) answer.reject(closedError());
    this.#answers.clear();
  }
}

function closedError(): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_CLOSED',
    'The what-if is closed, or its thread has ended; ask again, or make a new one.',
  );
}
