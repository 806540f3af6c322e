import { Worker } from 'node:worker_threads';

import { InferkvError, messageOf } from '../../base/errors.ts';
import { workerEntry } from '../../base/worker-entry.ts';
import type { CheckedWhatIf, WhatIfEstimate } from './options.ts';
import { ASKED, CLOSED, RESET, type ReferenceRing } from './reference-ring.ts';

/** What the thread begins with. */
export interface ReplayThreadData {
  readonly options: CheckedWhatIf;
  readonly memory: SharedArrayBuffer;
}

/** Where the shadows replay in a thread of their own, which is started when there is something to do and keeps no process alive. */
export class ReplayThread {
  readonly #options: CheckedWhatIf;
  readonly #ring: ReferenceRing;
  readonly #waiting: PromiseWithResolvers<readonly WhatIfEstimate[]>[] = [];
  #thread: Worker | undefined;
  #over: InferkvError | undefined;

  constructor(options: CheckedWhatIf, ring: ReferenceRing) {
    this.#options = options;
    this.#ring = ring;
  }

  /** Has the thread read what is in the ring; waits for nothing. */
  drain(): void {
    this.#tell(0);
  }

  /** @throws InferkvError `ERR_INFERKV_WORKER_LOST`, `ERR_INFERKV_CLOSED` */
  estimates(): Promise<readonly WhatIfEstimate[]> {
    if (this.#over !== undefined) return Promise.reject(this.#over);
    const waiting = Promise.withResolvers<readonly WhatIfEstimate[]>();
    this.#waiting.push(waiting);
    this.#tell(ASKED);
    this.#thread?.ref();
    return waiting.promise;
  }

  reset(): void {
    this.#tell(RESET);
  }

  async close(): Promise<void> {
    const thread = this.#thread;
    this.#lose(new InferkvError('ERR_INFERKV_CLOSED', 'The what-if is closed.'));
    if (thread === undefined) return;
    this.#ring.wake(CLOSED);
    await thread.terminate();
  }

  #tell(command: number): void {
    if (this.#over !== undefined) return;
    this.#thread ??= this.#start();
    this.#ring.wake(command);
  }

  #start(): Worker {
    const workerData: ReplayThreadData = { options: this.#options, memory: this.#ring.memory };
    const thread = new Worker(workerEntry(import.meta.url, './replay-worker'), {
      name: 'inferkv what-if',
      execArgv: [],
      workerData,
    });
    thread.unref();
    thread.on('message', (estimates: readonly WhatIfEstimate[]) => {
      for (const { resolve } of this.#waiting.splice(0)) resolve(estimates);
      thread.unref();
    });
    thread.on('error', (error) => this.#lose(lost(messageOf(error))));
    thread.on('exit', (code) => this.#lose(lost(`it ended with code ${code}`)));
    return thread;
  }

  /** Whatever ended it, it does not come back: nothing is in the sample any more, and whoever serves does not notice. */
  #lose(why: InferkvError): void {
    if (this.#over !== undefined) return;
    this.#over = why;
    this.#thread = undefined;
    this.#ring.last = -1;
    for (const { reject } of this.#waiting.splice(0)) reject(why);
  }
}

function lost(why: string): InferkvError {
  return new InferkvError('ERR_INFERKV_WORKER_LOST', `The thread of the what-if is gone: ${why}. Make a new one.`);
}
