import { InferkvError } from '../../base/errors.ts';
import type { CallOptions, EpochAuthority, EpochListener } from '../store.ts';
import type { Calls } from './calls.ts';
import { startAuthority, wallUs, type EpochKeys } from './epoch-keys.ts';
import { EpochStream } from './epoch-stream.ts';
import { faultOf } from './faults.ts';

/**
 * Epochs in a hash, and every bump in a stream of the last ten thousand.
 *
 * The number of the authority, its base, is the time in microseconds at which it started. A scope's number is at least that, so
 * one that has lost its memory, and starts again, gives numbers that were never given before.
 */
export class RedisEpochs implements EpochAuthority {
  readonly #calls: Calls;
  readonly #keys: EpochKeys;
  readonly #streams = new Set<EpochStream>();

  constructor(calls: Calls) {
    this.#calls = calls;
    const { keyPrefix } = calls.settings;
    this.#keys = { numbers: `${keyPrefix}{epochs}:numbers`, stream: `${keyPrefix}{epochs}:stream` };
  }

  async read(scopes: readonly string[], { signal }: CallOptions = {}): Promise<readonly number[]> {
    const fields = scopes.map((scope) => `s:${scope}`);
    const answer = await this.#calls.run((client) => client.hmget(this.#keys.numbers, 'base', ...fields), {
      signal,
      isRepeatable: true,
    });
    if (!isAnswerOf(scopes.length + 1, answer)) throw this.#calls.nonsense('HMGET');
    const base = numberOf(answer[0] ?? (await this.#start(signal)));
    const numbers = answer.slice(1).map((each) => Math.max(base, numberOf(each ?? '0')));
    if (!numbers.every(Number.isSafeInteger)) throw this.#calls.nonsense('HMGET');
    return numbers;
  }

  async bump(scopes: readonly string[], { signal }: CallOptions = {}): Promise<readonly number[]> {
    if (scopes.length === 0) return [];
    const { numbers, stream } = this.#keys;
    const { wallClock, epochBacklog } = this.#calls.settings;
    const words = [numbers, stream, wallUs(wallClock()), epochBacklog, ...scopes] as const;
    // Raising a number twice is as good as once, and better than not at all.
    const kind = { signal, isRepeatable: true };
    let answer: unknown;
    try {
      answer = await this.#calls.run((client) => client.inferkvBump(...words), kind);
    } catch (error) {
      if (!(error instanceof InferkvError) || faultOf(error.cause) !== 'full') throw error;
      // To forget what is wrong must be possible when memory is full, too.
      answer = await this.#calls.run((client) => client.inferkvBumpFull(...words), kind);
    }
    if (!isAnswerOf(scopes.length, answer)) throw this.#calls.nonsense('EVALSHA');
    const raised = answer.map((each) => numberOf(each));
    if (!raised.every(Number.isSafeInteger)) throw this.#calls.nonsense('EVALSHA');
    return raised;
  }

  subscribe(listener: EpochListener): () => Promise<void> {
    const stream = new EpochStream(this.#calls.settings, this.#keys, listener);
    this.#streams.add(stream);
    return async () => {
      this.#streams.delete(stream);
      await stream.close();
    };
  }

  /** Ends all subscriptions. */
  async close(): Promise<void> {
    await Promise.all([...this.#streams].map((stream) => stream.close()));
    this.#streams.clear();
  }

  async #start(signal: AbortSignal | undefined): Promise<string> {
    const { settings } = this.#calls;
    const answer = await this.#calls.run((client) => startAuthority(client, this.#keys, settings.wallClock()), {
      signal,
      isRepeatable: true,
    });
    if (typeof answer !== 'string') throw this.#calls.nonsense('EVALSHA');
    return answer;
  }
}

function isAnswerOf(length: number, answer: unknown): answer is readonly (string | null)[] {
  return Array.isArray(answer) && answer.length === length;
}

function numberOf(text: string | null): number {
  return text === null ? Number.NaN : Number(text);
}
