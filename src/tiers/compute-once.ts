import { abortError, whenAborted } from '../base/cancellation.ts';
import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import type { GrantAuthority } from '../stores/store.ts';

/** A computation that several nodes may want at the same time. */
export interface Work<T> {
  /** The same at every node. */
  readonly name: string;
  /** Milliseconds that it is likely to take; `undefined` where nobody knows. */
  readonly costMs: number | undefined;
  readonly signal: AbortSignal;
  /** What another node has computed and written meanwhile. */
  read(signal: AbortSignal): Promise<T | undefined>;
  /** Computes it, and writes it under a fencing token; 0 for none. */
  compute(token: number): Promise<Computed<T>>;
}

/** What was computed. */
export interface Computed<T> {
  readonly value: T;
  /** Settles when others can read it; the right is kept until then, and whoever computed does not wait for it. */
  readonly published: Promise<unknown>;
}

/** How rights are asked for. */
export interface ComputeOnceOptions {
  readonly grants: GrantAuthority;
  readonly clock: Clock;
  readonly random: Random;
  /** Milliseconds a right lasts unless it is renewed, which happens three times as often; 10,000 if left out. */
  readonly ttlMs?: number | undefined;
  /** Milliseconds that another node is waited for; 30,000 if left out. */
  readonly waitMs?: number | undefined;
  /** What is known to cost less is computed without asking: asking takes a round trip; 5 if left out. */
  readonly minCostMs?: number | undefined;
}

/** What is counted of computations shared between nodes. */
export interface ComputeOnceStats {
  /** Computed here, by right. */
  readonly granted: number;
  /** Computed by another node, and read. */
  readonly shared: number;
  /** Computed here without the right: it took too long to come by, or could not be asked for. */
  readonly alone: number;
  /** Rights that were lost while computing: another node took over. */
  readonly lost: number;
}

const DEFAULT_TTL_MS = 10_000;
const DEFAULT_WAIT_MS = 30_000;
const DEFAULT_MIN_COST_MS = 5;
const MAX_TIMES = 5;
const FIRST_PAUSE_MS = 5;
const MAX_PAUSE_MS = 200;

/**
 * One node computes, the others wait for what it writes. The right to compute is lent for a time; whoever has it renews it, and if
 * it dies another gets it, with a greater token. Nobody waits for ever, and where rights cannot be had everybody computes.
 */
export class ComputeOnce {
  readonly #options: ComputeOnceOptions;
  readonly #counts = { granted: 0, shared: 0, alone: 0, lost: 0 };

  constructor(options: ComputeOnceOptions) {
    this.#options = options;
  }

  async run<T>(work: Work<T>): Promise<T> {
    const { clock, ttlMs = DEFAULT_TTL_MS, waitMs = DEFAULT_WAIT_MS, minCostMs = DEFAULT_MIN_COST_MS } = this.#options;
    if (work.costMs !== undefined && work.costMs < minCostMs) return (await work.compute(0)).value;
    // Who takes much longer than usual is not waited for.
    const patienceMs = work.costMs === undefined ? waitMs : Math.min(waitMs, MAX_TIMES * work.costMs);
    const untilMs = clock.now() + patienceMs;
    for (let pauseMs = FIRST_PAUSE_MS; clock.now() < untilMs; pauseMs = Math.min(MAX_PAUSE_MS, 1.5 * pauseMs)) {
      const token = await this.#acquire(work, ttlMs);
      if (token === 'unknown') break;
      if (token !== undefined) {
        // Between this node's last look and now another may have finished.
        const there = pauseMs === FIRST_PAUSE_MS ? undefined : await work.read(work.signal);
        if (there === undefined) return this.#compute(work, token, ttlMs);
        this.#counts.shared++;
        this.#release(work.name, token);
        return there;
      }
      await this.#pause(pauseMs, work.signal);
      const there = await work.read(work.signal);
      if (there === undefined) continue;
      this.#counts.shared++;
      return there;
    }
    this.#counts.alone++;
    return (await work.compute(0)).value;
  }

  stats(): ComputeOnceStats {
    return { ...this.#counts };
  }

  async #acquire<T>({ name, signal }: Work<T>, ttlMs: number): Promise<number | undefined | 'unknown'> {
    try {
      return await this.#options.grants.acquire(name, ttlMs, { signal });
    } catch {
      if (signal.aborted) throw abortError(signal);
      return 'unknown';
    }
  }

  /** Computes, and renews the right meanwhile. What is computed after it was lost is good all the same; its token says that it is late. */
  async #compute<T>(work: Work<T>, token: number, ttlMs: number): Promise<T> {
    const { grants, clock } = this.#options;
    this.#counts.granted++;
    let isOver = false;
    let timer: { cancel(): void } | undefined;
    const renew = (): void => {
      timer = clock.after(ttlMs / 3, () => {
        void grants
          .renew(work.name, token, ttlMs)
          .then((isOurs) => {
            if (!isOurs) this.#counts.lost++;
            return isOurs;
          })
          // It may work the next time.
          .catch(() => true)
          .then((isOurs) => isOurs && !isOver && renew());
      });
    };
    renew();
    const end = (): void => {
      isOver = true;
      timer?.cancel();
      this.#release(work.name, token);
    };
    try {
      const { value, published } = await work.compute(token);
      published.then(end, end);
      return value;
    } catch (error) {
      end();
      throw error;
    }
  }

  #release(name: string, token: number): void {
    // It ends by itself if it cannot be given back.
    this.#options.grants.release(name, token).catch(() => undefined);
  }

  #pause(ms: number, signal: AbortSignal): Promise<void> {
    const { clock, random } = this.#options;
    return new Promise((resolve, reject) => {
      const stop = whenAborted(signal, (error) => {
        timer.cancel();
        reject(error);
      });
      // Nodes that began to wait together are not to look together.
      const timer = clock.after(ms * (0.5 + random.next()), () => {
        stop();
        resolve();
      });
    });
  }
}
