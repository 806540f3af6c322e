import type { ResourceLimits } from 'node:worker_threads';

import { systemClock, type Clock } from '../base/clock.ts';
import { abortError, cancellation, whenAborted } from '../base/cancellation.ts';
import { InferkvError } from '../base/errors.ts';
import { SlabPool } from '../base/slab-pool.ts';
import { isShared, isStrings, tensorBytes, type Tensor, type Tensors } from '../base/tensor.ts';
import { computeScheduler, type ComputeScheduler } from './compute-scheduler.ts';
import type { Artifact, RunOptions, RunResult, Session, SessionMetadata } from './engine.ts';
import { checkInputs, checkOutputs, checkTargets } from './run-check.ts';
import { SessionWorker } from './session-worker.ts';
import { stage, type Staged } from './staging.ts';
import type { DoneReply, LoadedReply, LoadRequest, NamedTensor, Notice } from './worker-protocol.ts';

/** What a session in worker threads is made of. */
export interface WorkerSessionOptions {
  /** The file the threads start from. */
  readonly entry: URL;
  readonly artifact: Artifact;
  readonly threads: number;
  readonly workers: number;
  readonly maxQueue: number;
  /** Bytes of inputs that may wait; past it `ERR_INFERKV_OVERLOADED`; 256 MiB if left out. */
  readonly maxQueueBytes?: number;
  readonly engine: Readonly<Record<string, unknown>>;
  /**
   * Bytes the session is charged with, given the bytes in and out of the largest run so far and the number of copies of
   * the weights that its threads hold.
   */
  readonly sizeBytes: (largestRunBytes: number, copies: number) => number;
  /** Bounds of each thread's JavaScript heap; Node's own if left out. */
  readonly resourceLimits?: ResourceLimits;
  readonly scheduler?: ComputeScheduler;
  readonly clock?: Clock;
}

interface Job {
  readonly staged: Staged;
  readonly outputs: readonly string[] | undefined;
  readonly into: Tensors;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (result: RunResult) => void;
  readonly reject: (error: unknown) => void;
  settled: boolean;
}

const MAX_QUEUE_BYTES = 256 * 1024 * 1024;

// Inputs of all sessions go through one pool, so that idle models hold no staging memory.
const slabs = new SlabPool((bytes) => new SharedArrayBuffer(bytes));

const warned = new Set<string>();

/** Tells the operator once a process, however many sessions have the same to say. */
function warnOnce({ code, text }: Notice): void {
  if (warned.has(code)) return;
  warned.add(code);
  process.emitWarning(text, { code });
}

/** A place for one worker thread, which comes back after the thread was lost. */
class WorkerSeat {
  readonly #options: WorkerSessionOptions;
  #worker: SessionWorker | undefined;
  busy = false;

  constructor(options: WorkerSessionOptions) {
    this.#options = options;
  }

  /** The worker with its model loaded; started and loaded first if it is not there or was lost. */
  async ready(): Promise<SessionWorker> {
    if (this.#worker?.lost === false) return this.#worker;
    return (await this.load()).worker;
  }

  async load(): Promise<{ readonly worker: SessionWorker; readonly reply: LoadedReply }> {
    const { entry, resourceLimits, artifact, threads, engine, scheduler = computeScheduler } = this.#options;
    const worker = new SessionWorker(entry, resourceLimits);
    // Loading computes on one thread, and takes its turn like a run.
    await scheduler.acquire(1);
    try {
      const request: LoadRequest = { kind: 'load', artifact, threads, engine };
      const reply = await worker.ask(request);
      if (reply.kind !== 'loaded') throw new InferkvError('ERR_INFERKV_ENGINE_FAILED', 'The worker did not load.');
      this.#worker = worker;
      for (const notice of reply.notices) warnOnce(notice);
      return { worker, reply };
    } catch (error) {
      void worker.close();
      throw error;
    } finally {
      scheduler.release(1);
    }
  }

  async close(): Promise<void> {
    await this.#worker?.close();
    this.#worker = undefined;
  }
}

/** A session whose runs happen in worker threads: queue, compute grants, deadlines, lost workers. */
export class WorkerSession implements Session {
  readonly metadata: SessionMetadata;
  readonly #options: WorkerSessionOptions;
  readonly #seats: readonly WorkerSeat[];
  readonly #copies: number;
  readonly #queue = new Set<Job>();
  readonly #running = new Set<Promise<void>>();
  #queuedBytes = 0;
  #largestRunBytes = 0;
  #closing: Promise<void> | undefined;

  private constructor(options: WorkerSessionOptions, seats: readonly WorkerSeat[], loaded: LoadedReply) {
    this.#options = options;
    this.#seats = seats;
    this.#copies = loaded.sharesWeights ? 1 : options.workers;
    this.metadata = loaded.metadata;
  }

  /** Starts the workers and loads the model in each; a load that is told to stop is let finish and closed. */
  static async open(options: WorkerSessionOptions, signal?: AbortSignal): Promise<WorkerSession> {
    const seats = Array.from({ length: options.workers }, () => new WorkerSeat(options));
    const closeAll = async (): Promise<void> => {
      await Promise.all(seats.map((seat) => seat.close()));
    };
    const loads = await Promise.allSettled(seats.map((seat) => seat.load()));
    const failed = loads.find((load) => load.status === 'rejected');
    const [first] = loads;
    if (failed !== undefined || first?.status !== 'fulfilled' || signal?.aborted === true) {
      await closeAll();
      throw failed === undefined && signal !== undefined ? abortError(signal) : failed?.reason;
    }
    return new WorkerSession(options, seats, first.value.reply);
  }

  get sizeBytes(): number {
    return this.#options.sizeBytes(this.#largestRunBytes, this.#copies);
  }

  run(inputs: Tensors, options: RunOptions = {}): Promise<RunResult> {
    return new Promise((resolve, reject) => {
      // What is wrong with the call itself throws here, and so rejects.
      const outputs = checkOutputs(options.outputs, this.metadata);
      checkInputs(inputs, this.metadata);
      checkTargets(options.into, this.metadata);
      this.#assertAccepts();
      const { clock = systemClock } = this.#options;
      const { signal, dispose } = cancellation(options.signal, options.deadlineMs, clock);
      if (signal?.aborted === true) {
        dispose();
        reject(abortError(signal));
        return;
      }
      const job = this.#jobOf(inputs, outputs, options.into ?? {}, signal, { dispose, resolve, reject });
      this.#queue.add(job);
      this.#queuedBytes += job.staged.bytes;
      this.#pump();
    });
  }

  close(): Promise<void> {
    this.#closing ??= this.#drain();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #assertAccepts(): void {
    const { maxQueue, maxQueueBytes = MAX_QUEUE_BYTES, artifact } = this.#options;
    if (this.#closing !== undefined) {
      throw new InferkvError('ERR_INFERKV_CLOSED', 'The model was closed; load it again.', { key: artifact.path });
    }
    if (this.#queue.size >= maxQueue || this.#queuedBytes >= maxQueueBytes) {
      throw new InferkvError(
        'ERR_INFERKV_OVERLOADED',
        `${this.#queue.size} runs (${this.#queuedBytes} bytes) wait for the model already; try again later, or raise maxQueue or workers.`,
        { key: artifact.path },
      );
    }
  }

  #jobOf(
    inputs: Tensors,
    outputs: readonly string[] | undefined,
    into: Tensors,
    signal: AbortSignal | undefined,
    caller: { dispose(): void; resolve(result: RunResult): void; reject(error: unknown): void },
  ): Job {
    const settle = (): boolean => {
      if (job.settled) return false;
      job.settled = true;
      stop();
      caller.dispose();
      return true;
    };
    const job: Job = {
      staged: stage(inputs, slabs),
      outputs,
      into,
      signal,
      settled: false,
      resolve: (result) => settle() && caller.resolve(result),
      reject: (error) => settle() && caller.reject(error),
    };
    const stop = whenAborted(signal, (error) => {
      if (this.#dequeue(job)) {
        job.staged.release();
        job.reject(error);
      } else if (!writesInPlace(into)) {
        // The run goes on and its result is dropped. With memory of the caller's to write into, he is told only when
        // the run has ended, as it is not his again before.
        job.reject(error);
      }
    });
    return job;
  }

  #dequeue(job: Job): boolean {
    if (!this.#queue.delete(job)) return false;
    this.#queuedBytes -= job.staged.bytes;
    return true;
  }

  #pump(): void {
    for (const seat of this.#seats) {
      if (seat.busy) continue;
      const [job] = this.#queue;
      if (job === undefined) return;
      this.#dequeue(job);
      const running = this.#serve(seat, job).finally(() => {
        this.#running.delete(running);
        this.#pump();
      });
      this.#running.add(running);
    }
  }

  async #serve(seat: WorkerSeat, job: Job): Promise<void> {
    seat.busy = true;
    const { threads, scheduler = computeScheduler } = this.#options;
    try {
      const worker = await seat.ready();
      await scheduler.acquire(threads, job.signal);
      try {
        const into = Object.entries(job.into).filter(
          ([name, each]) => isShared(each) && job.outputs?.includes(name) !== false,
        );
        const reply = await worker.ask({ kind: 'run', inputs: job.staged.tensors, outputs: job.outputs, into });
        if (job.signal?.aborted === true) job.reject(abortError(job.signal));
        else if (reply.kind === 'done') job.resolve(this.#resultOf(job, reply));
      } finally {
        scheduler.release(threads);
      }
    } catch (error) {
      job.reject(error);
    } finally {
      job.staged.release();
      seat.busy = false;
    }
  }

  #resultOf(job: Job, reply: DoneReply): RunResult {
    const bytes = [...job.staged.tensors, ...reply.outputs].reduce((sum, [, each]) => sum + tensorBytes(each), 0);
    this.#largestRunBytes = Math.max(this.#largestRunBytes, bytes);
    return {
      outputs: Object.fromEntries(reply.outputs.map((output) => [output[0], placed(output, job.into)])),
      computeMs: reply.computeMs,
    };
  }

  async #drain(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running);
    await Promise.all(this.#seats.map((seat) => seat.close()));
  }
}

function writesInPlace(into: Tensors): boolean {
  return Object.values(into).some(isShared);
}

/** An output where the caller wanted it, if it fits there; else as it came. */
function placed([name, output]: NamedTensor, into: Tensors): Tensor {
  const target = into[name];
  const { type, shape, data } = output;
  if (target === undefined || isStrings(data) || isStrings(target.data)) return output;
  if (target.type !== type || target.data.length < data.length) return output;
  const view = target.data.subarray(0, data.length);
  const inPlace = data.buffer === view.buffer || data.buffer instanceof SharedArrayBuffer;
  if (!inPlace) (view as Uint8Array).set(data as Uint8Array);
  return { type, shape, data: view };
}
