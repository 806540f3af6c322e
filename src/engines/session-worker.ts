import { Worker, type ResourceLimits } from 'node:worker_threads';

import { invariant } from '../base/assertions.ts';
import { InferkvError, messageOf } from '../base/errors.ts';
import { exitGuardMemory } from './exit-guard.ts';
import type { WorkerData, WorkerReply, WorkerRequest } from './worker-protocol.ts';

interface Pending {
  readonly resolve: (reply: Exclude<WorkerReply, { kind: 'failed' }>) => void;
  readonly reject: (error: InferkvError) => void;
}

/**
 * One thread that holds one model. It is asked one thing at a time; it keeps the process alive only while it is asked
 * something; and it is never terminated, as that would abort a process in the middle of a native run: it is told to
 * close, and ends by itself.
 */
export class SessionWorker {
  readonly #thread: Worker;
  readonly #exited: Promise<void>;
  #pending: Pending | undefined;
  #lost: InferkvError | undefined;

  constructor(entry: URL, resourceLimits: ResourceLimits = {}) {
    const workerData: WorkerData = { exitGuard: exitGuardMemory() };
    this.#thread = new Worker(entry, {
      workerData,
      resourceLimits,
      name: 'inferkv session',
      // What the program was started with is not meant for this file: `--input-type`, say, would keep it from starting.
      execArgv: [],
    });
    this.#thread.on('message', (reply: WorkerReply) => this.#onReply(reply));
    this.#thread.on('messageerror', (error) => this.#onLoss('sent what cannot be read', error));
    this.#thread.on('error', (error) => this.#onLoss(`failed: ${messageOf(error)}`, error));
    this.#exited = new Promise((resolve) => {
      this.#thread.once('exit', (code) => {
        this.#onLoss(`ended with code ${code}`);
        resolve();
      });
    });
    this.#thread.unref();
  }

  /** Whether the thread is gone; it answers nothing any more. */
  get lost(): boolean {
    return this.#lost !== undefined;
  }

  /** @throws InferkvError what the worker answered, or `ERR_INFERKV_WORKER_LOST` */
  ask(request: WorkerRequest): Promise<Exclude<WorkerReply, { kind: 'failed' }>> {
    invariant(this.#pending === undefined, 'a session worker was asked two things at once');
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    return new Promise((resolve, reject) => {
      this.#pending = { resolve, reject };
      this.#thread.ref();
      this.#thread.postMessage(request);
    });
  }

  /** Releases the model and waits for the thread's end; call it when nothing is being asked. */
  async close(): Promise<void> {
    if (this.#lost === undefined) {
      this.#thread.ref();
      this.#thread.postMessage({ kind: 'close' } satisfies WorkerRequest);
    }
    await this.#exited;
  }

  #onReply(reply: WorkerReply): void {
    const pending = this.#pending;
    if (pending === undefined) return;
    this.#pending = undefined;
    this.#thread.unref();
    if (reply.kind === 'failed') pending.reject(new InferkvError(reply.code, reply.message));
    else pending.resolve(reply);
  }

  #onLoss(what: string, cause?: unknown): void {
    this.#lost ??= new InferkvError(
      'ERR_INFERKV_WORKER_LOST',
      `The worker thread of the model ${what}; the model is loaded again for the next request.`,
      { cause },
    );
    this.#pending?.reject(this.#lost);
    this.#pending = undefined;
  }
}
