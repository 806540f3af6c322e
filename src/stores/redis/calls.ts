import { orAborted, throwIfAborted, whenAborted } from '../../base/cancellation.ts';
import type { Clock } from '../../base/clock.ts';
import { InferkvError, isInferkvError } from '../../base/errors.ts';
import type { CallOptions } from '../store.ts';
import type { RedisClient } from './client.ts';
import { closed, Connection } from './connection.ts';
import { faultOf, nonsense, storeError, type Fault } from './faults.ts';
import type { RedisSettings } from './options.ts';

/** How a call is done. */
export interface CallKind extends CallOptions {
  /** Whether it may be done twice, where nobody knows if it was done. */
  readonly isRepeatable?: boolean;
  /** Bytes that it writes. */
  readonly lengthBytes?: number;
}

const TRIES = 4;
const FIRST_PAUSE_MS = 40;
/** Milliseconds that `close` waits for calls under way. */
const CLOSE_MS = 2000;
const NOTHING: CallKind = {};

/** What was sent and has no answer yet. */
interface Outstanding {
  readonly sinceMs: number;
  readonly lengthBytes: number;
}

/**
 * Calls to the server: bounded in number and bytes, each ended by its signal, done again where that is safe and helps.
 *
 * A call whose caller has given up is still counted until its answer comes or the connection ends, as the client keeps it until
 * then; a connection that owes one for too long is given up.
 */
export class Calls {
  readonly connection: Connection;
  readonly settings: RedisSettings;
  readonly #outstanding = new Set<Outstanding>();
  #bytes = 0;
  #waiting = 0;
  #isWatching = false;
  #isClosed = false;
  #idle: (() => void) | undefined;
  /** Keeps the process alive while there are calls: sockets do not. */
  #alive: NodeJS.Timeout | undefined;

  constructor(settings: RedisSettings) {
    this.settings = settings;
    this.connection = new Connection(settings, 'calls');
  }

  /** @throws InferkvError `ERR_INFERKV_STORE_FAILED`, `ERR_INFERKV_CLOSED`, or what the signal stands for */
  async run<T>(command: (client: RedisClient) => Promise<T>, kind: CallKind = NOTHING): Promise<T> {
    const { signal, lengthBytes = 0 } = kind;
    for (let tries = 1; ; tries++) {
      this.#admit(lengthBytes);
      throwIfAborted(signal);
      const client = this.connection.current ?? (await this.#opened(signal));
      try {
        return await orAborted(this.#sent(command(client), lengthBytes), signal);
      } catch (error) {
        if (isInferkvError(error)) throw error;
        const fault = faultOf(error);
        // Redis behind a name that moves on with its master, and Sentinels: another connection may lead elsewhere.
        if (fault === 'elsewhere') this.connection.drop(client);
        if (tries === TRIES || this.#isClosed || !helps(fault, kind)) throw storeError(this.settings.where, error);
      }
      await this.#pause(FIRST_PAUSE_MS * 2 ** (tries - 1), signal);
    }
  }

  /** The error for an answer that cannot be one; the connection that gave it is given up. */
  nonsense(command: string): InferkvError {
    const { current } = this.connection;
    if (current !== undefined) this.connection.drop(current);
    return nonsense(this.settings.where, command);
  }

  /** Lets calls under way end, but not for long, then closes the connection. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#outstanding.size > 0) {
      await new Promise<void>((resolve) => {
        const timer = this.settings.clock.after(CLOSE_MS, resolve);
        this.#idle = () => {
          timer.cancel();
          resolve();
        };
      });
    }
    this.connection.close();
    clearInterval(this.#alive);
  }

  #admit(lengthBytes: number): void {
    const { name, where, maxPendingCalls, maxPendingBytes } = this.settings;
    if (this.#isClosed) throw closed(name);
    const calls = this.#outstanding.size + this.#waiting;
    // One that is alone may be larger than the bound, or it could never be written.
    if (calls < maxPendingCalls && (calls === 0 || this.#bytes + lengthBytes <= maxPendingBytes)) return;
    throw new InferkvError(
      'ERR_INFERKV_STORE_FAILED',
      `Redis at ${where} owes answers to ${calls} calls with ${this.#bytes} bytes to write, and no more may wait; ` +
        'ask for less at once, or raise `maxPendingCalls` and `maxPendingBytes`.',
    );
  }

  async #opened(signal: AbortSignal | undefined): Promise<RedisClient> {
    this.#waiting++;
    this.#keepAlive();
    try {
      return await this.connection.open(signal);
    } finally {
      this.#waiting--;
      this.#keepAlive();
    }
  }

  #sent<T>(answer: Promise<T>, lengthBytes: number): Promise<T> {
    const call: Outstanding = { sinceMs: this.settings.clock.now(), lengthBytes };
    this.#outstanding.add(call);
    this.#bytes += lengthBytes;
    if (this.#outstanding.size === 1) this.#keepAlive();
    if (!this.#isWatching) this.#watch();
    const done = (): void => {
      this.#outstanding.delete(call);
      this.#bytes -= lengthBytes;
      if (this.#outstanding.size > 0) return;
      this.#keepAlive();
      this.#idle?.();
    };
    // oxlint-disable-next-line promise/no-callback-in-promise -- no callback of anybody's
    answer.then(done, done);
    return answer;
  }

  /** A connection that answers, but not this: after bytes that were cut or changed on the way, it may take all that follows for one value. */
  #watch(): void {
    const { clock, silenceMs } = this.settings;
    this.#isWatching = true;
    clock.after(silenceMs, () => {
      this.#isWatching = false;
      const [oldest] = this.#outstanding;
      if (oldest === undefined) return;
      const { current } = this.connection;
      // The socket's own silence is noticed before; a Cluster may send a call several times.
      if (clock.now() - oldest.sinceMs > 2 * silenceMs && current !== undefined) this.connection.drop(current);
      this.#watch();
    });
  }

  #keepAlive(): void {
    const isWanted = this.#outstanding.size + this.#waiting > 0;
    this.#alive ??= setInterval(() => undefined, 2 ** 31 - 1);
    if (isWanted) this.#alive.ref();
    else this.#alive.unref();
  }

  async #pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
    this.#waiting++;
    this.#keepAlive();
    try {
      await pause(ms * (0.5 + this.settings.random.next() / 2), this.settings.clock, signal);
    } finally {
      this.#waiting--;
      this.#keepAlive();
    }
  }
}

/** Waits, no longer than the signal allows. */
export function pause(ms: number, clock: Clock, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = clock.after(ms, () => {
      stop();
      resolve();
    });
    const stop = whenAborted(signal, (error) => {
      timer.cancel();
      reject(error);
    });
  });
}

function helps(fault: Fault, { isRepeatable = false }: CallKind): boolean {
  return fault === 'later' || fault === 'elsewhere' || (fault === 'closed' && isRepeatable);
}
