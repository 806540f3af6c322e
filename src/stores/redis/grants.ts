import type { CallOptions, GrantAuthority } from '../store.ts';
import type { Calls } from './calls.ts';

/** Milliseconds that the last token of a name is remembered. One given after that is greater by the clock. */
const REMEMBERED_MS = 24 * 3_600_000;

/**
 * Rights of names, each in a hash of its own: the last token, and until when it holds by the server's clock. The token is that
 * clock in microseconds, or one more than the last.
 */
export class RedisGrants implements GrantAuthority {
  readonly #calls: Calls;
  readonly #prefix: string;

  constructor(calls: Calls) {
    this.#calls = calls;
    this.#prefix = `${calls.settings.keyPrefix}g:`;
  }

  // Not repeated where the connection ended: the first may have got it, and would be waited for.
  async acquire(name: string, ttlMs: number, options: CallOptions = {}): Promise<number | undefined> {
    const ttl = wholeMs(ttlMs);
    const answer = await this.#calls.run(
      (client) => client.inferkvAcquire(this.#prefix + name, ttl, ttl + REMEMBERED_MS),
      options,
    );
    if (answer === null) return undefined;
    const token = typeof answer === 'string' ? Number(answer) : Number.NaN;
    if (!Number.isSafeInteger(token)) throw this.#calls.nonsense('EVALSHA');
    return token;
  }

  async renew(name: string, token: number, ttlMs: number, options: CallOptions = {}): Promise<boolean> {
    const ttl = wholeMs(ttlMs);
    const answer = await this.#calls.run(
      (client) => client.inferkvRenew(this.#prefix + name, String(token), ttl, ttl + REMEMBERED_MS),
      { signal: options.signal, isRepeatable: true },
    );
    if (answer !== 0 && answer !== 1) throw this.#calls.nonsense('EVALSHA');
    return answer === 1;
  }

  async release(name: string, token: number, options: CallOptions = {}): Promise<void> {
    await this.#calls.run((client) => client.inferkvRelease(this.#prefix + name, String(token)), {
      signal: options.signal,
      isRepeatable: true,
    });
  }
}

function wholeMs(ttlMs: number): number {
  return Math.max(1, Math.ceil(Math.min(ttlMs, REMEMBERED_MS)));
}
