import { orAborted } from '../../base/cancellation.ts';
import { InferkvError } from '../../base/errors.ts';
import type { EpochListener } from '../store.ts';
import { pause } from './calls.ts';
import type { RedisClient } from './client.ts';
import { closed, Connection } from './connection.ts';
import { startAuthority, type EpochKeys } from './epoch-keys.ts';
import type { RedisSettings } from './options.ts';

/** One change of the stream: its place, how many were told with it since the authority started, and what changed. */
interface Change {
  readonly id: string;
  readonly number: number;
  readonly scope: string;
  readonly epoch: number;
}

/** How far the authority is: its base, and the number of its last change. */
interface Progress {
  readonly base: string | undefined;
  readonly told: number;
}

const BEGINNING = '0-0';
const BATCH = 1000;
/** A server that has not answered for so many heartbeats is taken for lost. */
const MISSED_HEARTBEATS = 2;
const GRACE_MS = 200;
const MAX_PAUSE_MS = 500;

/**
 * Tells a listener of every bump, in order, over a connection of its own that waits for the stream.
 *
 * Changes are numbered without gaps. What the listener misses is noticed by the number of the next change, or by that of
 * the last one, which is asked for with every heartbeat; a history that is not the one seen so far, by the last change seen
 * not being there where older ones are, or by numbers that go back. The latter means that the authority has forgotten
 * bumps (a replica that was behind took over): its base is raised, so that everything is invalid rather than something wrong.
 */
export class EpochStream {
  readonly #settings: RedisSettings;
  readonly #keys: EpochKeys;
  readonly #listener: EpochListener;
  readonly #connection: Connection;
  readonly #ending = new AbortController();
  readonly #ended: Promise<void>;
  /** The last change seen, and the base it was seen under; none before the first connection. */
  #base: string | undefined;
  #lastId = BEGINNING;
  #lastNumber = 0;
  #greatest = 0;
  #isInStep = false;

  constructor(settings: RedisSettings, keys: EpochKeys, listener: EpochListener) {
    this.#settings = settings;
    this.#keys = keys;
    this.#listener = listener;
    this.#connection = new Connection(settings, 'epochs');
    this.#ended = this.#live();
  }

  async close(): Promise<void> {
    this.#ending.abort(closed(this.#settings.name));
    this.#connection.close();
    await this.#ended;
  }

  async #live(): Promise<void> {
    const { signal } = this.#ending;
    const { clock } = this.#settings;
    for (let failures = 0; !signal.aborted; failures++) {
      let client: RedisClient | undefined;
      try {
        client = await this.#connection.open(signal);
        await this.#follow(client);
      } catch {
        // Whatever it was: bumps may be missed now, and the next connection finds out which.
        if (client !== undefined) this.#connection.drop(client);
      }
      if (signal.aborted) return;
      if (this.#isInStep) {
        failures = 0;
        this.#isInStep = false;
        this.#listener.lost();
      }
      const pauseMs = Math.max(this.#connection.retryInMs, Math.min(MAX_PAUSE_MS, 2 ** Math.min(failures, 20)));
      await pause(pauseMs, clock, signal).catch(() => undefined);
    }
  }

  /** Until something fails. */
  async #follow(client: RedisClient): Promise<void> {
    let isWhole = await this.#findPlace(client);
    let expected = this.#lastNumber;
    for (;;) {
      const { changes, progress } = await this.#next(client, this.#isInStep);
      if (this.#ending.signal.aborted) return;
      for (const change of changes) {
        if (change.number > this.#lastNumber + 1) isWhole = false;
        this.#tell(change);
      }
      if (progress.base !== this.#base || progress.told < this.#lastNumber) {
        isWhole = await this.#findPlace(client);
        expected = this.#lastNumber;
      } else if (changes.length === 0 && this.#lastNumber < expected) {
        // It was made before this was read, and is not in the stream any more.
        isWhole = false;
        this.#lastNumber = expected;
      }
      expected = Math.max(expected, progress.told);
      const isCaughtUp = changes.length < BATCH && this.#lastNumber >= expected;
      if (isCaughtUp && !(this.#isInStep && isWhole)) {
        this.#isInStep = true;
        this.#listener.inStep(isWhole);
        isWhole = true;
      }
    }
  }

  /** Where to read on; `false` if something was or may have been missed. */
  async #findPlace(client: RedisClient): Promise<boolean> {
    const { stream } = this.#keys;
    const [seen, first, last, progress] = await this.#answered(
      Promise.all([
        client.xrange(stream, this.#lastId, this.#lastId),
        client.xrange(stream, '-', '+', 'COUNT', 1),
        client.xrevrange(stream, '+', '-', 'COUNT', 1),
        this.#progress(client),
      ]),
    );
    const [firstChange] = changesOf(first);
    const isOurs =
      this.#base !== undefined &&
      progress.base === this.#base &&
      progress.told >= this.#lastNumber &&
      (this.#lastId === BEGINNING || changesOf(seen).length > 0 || !isBefore(firstChange?.id, this.#lastId));
    if (isOurs) return true;
    let { base } = progress;
    if (base === undefined || Number(base) <= Number(this.#base ?? 0)) {
      const greatest = Math.max(this.#greatest, Number(this.#base ?? 0));
      const made = await this.#answered(startAuthority(client, this.#keys, this.#settings.wallClock(), base, greatest));
      if (typeof made !== 'string') throw nonsense();
      base = made;
    }
    this.#base = base;
    const [lastChange] = changesOf(last);
    this.#lastId = lastChange?.id ?? BEGINNING;
    this.#lastNumber = lastChange?.number ?? progress.told;
    return false;
  }

  async #next(client: RedisClient, isPatient: boolean): Promise<{ changes: readonly Change[]; progress: Progress }> {
    const { heartbeatMs } = this.#settings;
    const block = isPatient ? ['BLOCK', heartbeatMs] : [];
    // Both go out at once, but the second is answered after the first: what it counts is read no later than the next time.
    const [read, progress] = await this.#answered(
      Promise.all([
        client.xread('COUNT', BATCH, ...block, 'STREAMS', this.#keys.stream, this.#lastId),
        this.#progress(client),
      ]),
    );
    if (read === null) return { changes: [], progress };
    const [, entries] = (Array.isArray(read) && Array.isArray(read[0]) ? read[0] : []) as readonly unknown[];
    return { changes: changesOf(entries), progress };
  }

  async #progress(client: RedisClient): Promise<Progress> {
    const answer = await client.hmget(this.#keys.numbers, 'base', 'told');
    if (!Array.isArray(answer) || answer.length !== 2) throw nonsense();
    const [base, told] = answer as readonly (string | null)[];
    return { base: base ?? undefined, told: Number(told ?? 0) };
  }

  /** The answer, if it comes while the server counts as there. */
  #answered<T>(answer: Promise<T>): Promise<T> {
    const { clock, heartbeatMs } = this.#settings;
    const silence = new AbortController();
    const end = (): void => silence.abort(this.#ending.signal.reason);
    this.#ending.signal.addEventListener('abort', end, { once: true });
    const timer = clock.after(MISSED_HEARTBEATS * heartbeatMs + GRACE_MS, () => {
      silence.abort(new InferkvError('ERR_INFERKV_STORE_FAILED', `Redis at ${this.#settings.where} is silent.`));
    });
    return orAborted(answer, silence.signal).finally(() => {
      timer.cancel();
      this.#ending.signal.removeEventListener('abort', end);
    });
  }

  #tell({ id, number, scope, epoch }: Change): void {
    this.#lastId = id;
    this.#lastNumber = number;
    this.#greatest = Math.max(this.#greatest, epoch);
    this.#listener.bumped(scope, epoch);
  }
}

function changesOf(entries: unknown): readonly Change[] {
  if (!Array.isArray(entries)) throw nonsense();
  return entries.map((entry: unknown) => {
    const [id, fields] = (Array.isArray(entry) ? entry : []) as readonly unknown[];
    const words = (Array.isArray(fields) ? fields : []) as readonly unknown[];
    const [, number, , scope, , epoch] = words;
    const change = { id: String(id), number: Number(number), scope: String(scope), epoch: Number(epoch) };
    if (words.length !== 6 || !Number.isSafeInteger(change.number) || !Number.isSafeInteger(change.epoch))
      throw nonsense();
    return change;
  });
}

/** Whether an id of a stream, if there is one, comes before another. */
function isBefore(id: string | undefined, other: string): boolean {
  if (id === undefined) return false;
  const [ms = 0, sequence = 0] = id.split('-').map(Number);
  const [otherMs = 0, otherSequence = 0] = other.split('-').map(Number);
  return ms < otherMs || (ms === otherMs && sequence < otherSequence);
}

function nonsense(): InferkvError {
  return new InferkvError('ERR_INFERKV_STORE_FAILED', 'The stream of epochs holds what was not written by this store.');
}
