import { orAborted } from '../../base/cancellation.ts';
import { InferkvError } from '../../base/errors.ts';
import type { CallOptions, EpochAuthority, EpochListener } from '../store.ts';
import { connected, type RedisClient } from './client.ts';
import { BUMP_EPOCHS, LOG_STATE, READ_EPOCHS } from './scripts.ts';
import type { AskRedis } from './store.ts';

// Entries of the log that are kept: who was away for longer reads the epochs anew.
const LOG_LENGTH = 10_000;
// A read that waits comes back after that long even if nothing has happened, which shows that the line is alive.
const BLOCK_MS = 250;
const SILENCE_MS = 1000;
const BATCH = 512;
const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 1000;

/** How far the log has been read; no `id` before it was read for the first time. */
interface Place {
  id: string | undefined;
  number: number;
}

/** An entry of the log. */
interface LogEntry {
  readonly id: string;
  readonly scope: string;
  readonly epoch: number;
  readonly number: number;
}

/**
 * Epochs in Redis: a hash of numbers, and a stream in which every change is noted down. Entries of the stream are numbered, so
 * that whoever reads it sees whether one is missing: trimmed, flushed, or lost with a master.
 */
export class RedisEpochs implements EpochAuthority {
  readonly #ask: AskRedis;
  readonly #makeLine: () => Promise<RedisClient>;
  readonly #epochs: string;
  readonly #log: string;
  readonly #ends = new Set<() => Promise<void>>();

  /** @param makeLine makes a client for whoever listens, as waiting for news holds up a connection */
  constructor(ask: AskRedis, makeLine: () => Promise<RedisClient>, prefix: string) {
    this.#ask = ask;
    this.#makeLine = makeLine;
    // In one slot of a Cluster.
    this.#epochs = `${prefix}{epochs}`;
    this.#log = `${prefix}{epochs}:log`;
  }

  async read(scopes: readonly string[], { signal }: CallOptions = {}): Promise<readonly number[]> {
    const epochs = await this.#ask(signal, (client) =>
      client.eval(READ_EPOCHS, 1, this.#epochs, Date.now(), ...scopes),
    );
    return (epochs as string[]).map(Number);
  }

  async bump(scopes: readonly string[], { signal }: CallOptions = {}): Promise<readonly number[]> {
    const epochs = await this.#ask(signal, (client) =>
      client.eval(BUMP_EPOCHS, 2, this.#epochs, this.#log, Date.now(), LOG_LENGTH, ...scopes),
    );
    return (epochs as string[]).map(Number);
  }

  subscribe(listener: EpochListener): () => Promise<void> {
    const stop = new AbortController();
    const reading = this.#follow(listener, stop.signal);
    const end = async (): Promise<void> => {
      this.#ends.delete(end);
      stop.abort();
      await reading;
    };
    this.#ends.add(end);
    return end;
  }

  async close(): Promise<void> {
    for (const end of this.#ends) await end();
  }

  /** Reads the log as long as it is wanted, over a line of its own; a line that breaks is made anew. */
  async #follow(listener: EpochListener, stop: AbortSignal): Promise<void> {
    const place: Place = { id: undefined, number: 0 };
    for (let pauseMs = FIRST_RETRY_MS; !stop.aborted; pauseMs = Math.min(MAX_RETRY_MS, 2 * pauseMs)) {
      let line: RedisClient | undefined;
      const endLine = (): void => line?.disconnect();
      stop.addEventListener('abort', endLine);
      try {
        line = await this.#makeLine();
        await connected(line, stop);
        pauseMs = FIRST_RETRY_MS;
        await this.#read(line, listener, place, stop);
      } catch {
        // Told below; the next line begins where this one ended.
      } finally {
        stop.removeEventListener('abort', endLine);
        line?.disconnect();
      }
      listener.lost();
      if (!stop.aborted) await pause(pauseMs, stop);
    }
  }

  /** Reads on from a place until the line breaks or nobody wants it any more. */
  async #read(line: RedisClient, listener: EpochListener, place: Place, stop: AbortSignal): Promise<void> {
    if (place.id === undefined) {
      // What was read before the first line stood may be out of date by now.
      Object.assign(place, await this.#state(line));
      listener.inStep(false);
    } else listener.inStep(await this.#catchUp(line, listener, place));
    while (!stop.aborted) {
      const entries = await this.#next(line, place, BLOCK_MS);
      if (!tellAll(entries, listener, place)) listener.inStep(false);
    }
  }

  /** Reads what came while there was no line; whether that is all that came. */
  async #catchUp(line: RedisClient, listener: EpochListener, place: Place): Promise<boolean> {
    for (;;) {
      for (;;) {
        const entries = await this.#next(line, place);
        if (entries.length === 0) break;
        if (!tellAll(entries, listener, place)) return false;
      }
      const state = await this.#state(line);
      if (state.number === place.number) return true;
      const came = await this.#next(line, place);
      if (came.length > 0 && state.number > place.number) continue;
      Object.assign(place, state);
      return false;
    }
  }

  async #state(line: RedisClient): Promise<{ readonly id: string; readonly number: number }> {
    const [number, id] = (await inTime(line.eval(LOG_STATE, 2, this.#epochs, this.#log))) as [string, string];
    return { number: Number(number), id };
  }

  async #next(line: RedisClient, { id = '0-0' }: Place, blockMs?: number): Promise<readonly LogEntry[]> {
    const reply = await inTime(
      blockMs === undefined
        ? line.xread('COUNT', BATCH, 'STREAMS', this.#log, id)
        : line.xread('COUNT', BATCH, 'BLOCK', blockMs, 'STREAMS', this.#log, id),
    );
    const [, entries = []] = reply?.[0] ?? [];
    return entries.map(([each, [, scope = '', , epoch, , number]]) => ({
      id: each,
      scope,
      epoch: Number(epoch),
      number: Number(number),
    }));
  }
}

/** Tells of entries and moves on behind them; whether none was missing before or between them. */
function tellAll(entries: readonly LogEntry[], listener: EpochListener, place: Place): boolean {
  let isWhole = true;
  for (const { id, scope, epoch, number } of entries) {
    if (number !== place.number + 1) isWhole = false;
    listener.bumped(scope, epoch);
    Object.assign(place, { id, number });
  }
  return isWhole;
}

/** Gives up on an answer that does not come: a server that hangs keeps its connections open. */
async function inTime<T>(answer: Promise<T>): Promise<T> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(new InferkvError('ERR_INFERKV_DEADLINE', 'Redis was silent.')), SILENCE_MS);
  timer.unref();
  try {
    return await orAborted(answer, late.signal);
  } finally {
    clearTimeout(timer);
  }
}

function pause(ms: number, stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      stop.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    timer.unref();
    stop.addEventListener('abort', end);
  });
}
