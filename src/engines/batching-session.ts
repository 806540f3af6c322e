import { invariant } from '../base/assertions.ts';
import { abortError, cancellation, whenAborted } from '../base/cancellation.ts';
import type { Clock } from '../base/clock.ts';
import { InferkvError, isInferkvError } from '../base/errors.ts';
import { SlabPool } from '../base/slab-pool.ts';
import { ELEMENT_BYTES, type Tensors } from '../base/tensor.ts';
import { Batch, rowsOf, signatureOf } from './batch.ts';
import type { RunOptions, RunResult, Session, SessionMetadata, TensorSpec } from './engine.ts';
import { checkInputs, checkOutputs, shapeText } from './run-check.ts';

/** How requests to one model are joined. */
export interface BatchingOptions {
  /** Rows of one run at most: sizes of the first dimension, added up. */
  readonly maxSize: number;
  /** Milliseconds the first request waits for others; 0 if left out: then only those are joined that come during a run. */
  readonly maxDelayMs?: number | undefined;
}

/** What a batching session is made of. */
export interface BatchingSessionOptions extends BatchingOptions {
  /** Runs that may be under way at one time: the session's workers. */
  readonly workers: number;
  /** Requests that may wait; past it `ERR_INFERKV_OVERLOADED`. */
  readonly maxQueue: number;
  readonly clock: Clock;
}

interface WaitingBatch {
  readonly batch: Batch;
  /** Whether it has waited long enough. */
  due: boolean;
  timer: { cancel(): void } | undefined;
}

// Shared by all models, so that idle ones hold no memory.
const slabs = new SlabPool((bytes) => new SharedArrayBuffer(bytes));

/**
 * Joins requests that come together into one run along the first dimension, and gives each its own rows back. Which
 * requests meet is chance, and kernels may round the last bits of a larger batch differently; so the batch size is part
 * of the keys of results. Idea: Crankshaw et al., "Clipper", https://www.usenix.org/conference/nsdi17/technical-sessions/presentation/crankshaw
 */
export class BatchingSession implements Session {
  readonly metadata: SessionMetadata;
  readonly #session: Session;
  readonly #options: BatchingSessionOptions;
  /** Batches that others can still join, by signature. */
  readonly #open = new Map<string, WaitingBatch>();
  /** Everything that waits for its run, oldest first. */
  readonly #waiting = new Set<WaitingBatch>();
  readonly #running = new Set<Promise<void>>();
  #waitingMembers = 0;
  #closed = false;

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for a model with an input or output that has no free first dimension */
  constructor(session: Session, options: BatchingSessionOptions) {
    const unfit = [...session.metadata.inputs, ...session.metadata.outputs].find((spec) => !isBatchable(spec));
    if (unfit !== undefined) {
      throw new InferkvError(
        'ERR_INFERKV_CONFIG_INVALID',
        `The model cannot be batched: "${unfit.name}" is ${unfit.type} ${shapeText(unfit.shape)} and would have to be declared as numbers with a free first dimension; take "batching" out of its settings.`,
        { key: unfit.name },
      );
    }
    this.metadata = session.metadata;
    this.#session = session;
    this.#options = options;
  }

  get sizeBytes(): number {
    return this.#session.sizeBytes;
  }

  run(inputs: Tensors, options: RunOptions = {}): Promise<RunResult> {
    return new Promise((resolve, reject) => {
      // What is wrong with the call itself throws here, and so rejects.
      const outputs = checkOutputs(options.outputs, this.metadata);
      invariant(outputs !== undefined, 'a batchable model says what it gives');
      checkInputs(inputs, this.metadata);
      const rows = rowsOf(inputs);
      // What fills a run by itself, or writes into its caller's memory, goes alone.
      if (rows === undefined || rows >= this.#options.maxSize || options.into !== undefined) {
        resolve(this.#session.run(inputs, options));
        return;
      }
      this.#assertAccepts();
      const { signal, dispose } = cancellation(options.signal, options.deadlineMs, this.#options.clock);
      if (signal?.aborted === true) throw abortError(signal);
      const waiting = this.#batchFor(inputs, rows, outputs);
      const settled =
        <T>(settle: (value: T) => void) =>
        (value: T): void => {
          stop();
          dispose();
          settle(value);
        };
      const member = waiting.batch.add(inputs, rows, { resolve: settled(resolve), reject: settled(reject) });
      this.#waitingMembers++;
      const stop = whenAborted(signal, (error) => {
        // Once its batch runs, a member that gives up is only not answered.
        if (this.#waiting.has(waiting) && waiting.batch.remove(member)) this.#left(waiting);
        member.reject(error);
      });
      this.#dispatch();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const waiting of this.#waiting) waiting.due = true;
    this.#dispatch();
    while (this.#running.size > 0) await Promise.all(this.#running);
    await this.#session.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #assertAccepts(): void {
    if (this.#closed) throw new InferkvError('ERR_INFERKV_CLOSED', 'The model was closed; load it again.');
    if (this.#waitingMembers < this.#options.maxQueue) return;
    throw new InferkvError(
      'ERR_INFERKV_OVERLOADED',
      `${this.#waitingMembers} requests wait for a batch already; try again later, or raise maxQueue or workers.`,
    );
  }

  /** The open batch for such requests if it has room for the rows, else a new one. */
  #batchFor(inputs: Tensors, rows: number, outputs: readonly string[]): WaitingBatch {
    const { maxSize, maxDelayMs = 0, clock } = this.#options;
    const signature = signatureOf(inputs, outputs);
    const open = this.#open.get(signature);
    if (open !== undefined && this.#waiting.has(open)) {
      if (open.batch.rows + rows <= maxSize) return open;
      open.due = true;
    }
    const batch = new Batch(inputs, outputs, maxSize, slabs);
    const waiting: WaitingBatch = { batch, due: maxDelayMs === 0, timer: undefined };
    if (maxDelayMs > 0) {
      waiting.timer = clock.after(maxDelayMs, () => {
        waiting.due = true;
        this.#dispatch();
      });
    }
    this.#open.set(signature, waiting);
    this.#waiting.add(waiting);
    return waiting;
  }

  #left(waiting: WaitingBatch): void {
    this.#waitingMembers--;
    if (waiting.batch.members.length > 0) return;
    this.#unqueue(waiting);
    waiting.batch.release();
  }

  #unqueue(waiting: WaitingBatch): void {
    waiting.timer?.cancel();
    this.#waiting.delete(waiting);
    for (const [signature, open] of this.#open) if (open === waiting) this.#open.delete(signature);
  }

  #dispatch(): void {
    for (const waiting of this.#waiting) {
      if (this.#running.size >= this.#options.workers) return;
      const { batch } = waiting;
      if (!waiting.due && batch.rows < this.#options.maxSize) continue;
      this.#unqueue(waiting);
      this.#waitingMembers -= batch.members.length;
      const running = this.#serve(batch).finally(() => {
        this.#running.delete(running);
        this.#dispatch();
      });
      this.#running.add(running);
    }
  }

  async #serve(batch: Batch): Promise<void> {
    try {
      const { outputs, computeMs } = await this.#session.run(batch.inputs(), { outputs: batch.outputs });
      const parts = batch.split(outputs);
      if (parts === undefined) return await this.#serveSingly(batch);
      for (const [at, { rows, resolve }] of batch.members.entries()) {
        // What a request cost is its share: that is what a hit on its answer saves where requests are batched.
        resolve({ outputs: parts[at] ?? {}, computeMs: (computeMs * rows) / batch.rows });
      }
    } catch (error) {
      // What one request brought along must not fail the others.
      if (batch.members.length > 1 && isRunFailure(error)) return await this.#serveSingly(batch);
      for (const { reject } of batch.members) reject(error);
    } finally {
      batch.release();
    }
  }

  async #serveSingly(batch: Batch): Promise<void> {
    for (const { from, rows, resolve, reject } of batch.members) {
      await this.#session.run(batch.inputs(from, rows), { outputs: batch.outputs }).then(resolve, reject);
    }
  }
}

function isBatchable({ type, shape, many, optional }: TensorSpec): boolean {
  if (type === 'any' || shape === 'any' || many !== undefined || optional === true) return false;
  return typeof shape[0] === 'string' && ELEMENT_BYTES[type] >= 1;
}

function isRunFailure(error: unknown): boolean {
  return isInferkvError(error, 'ERR_INFERKV_ENGINE_FAILED') || isInferkvError(error, 'ERR_INFERKV_WORKER_LOST');
}
