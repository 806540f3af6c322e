import { abortError, orAborted, throwIfAborted } from '../base/cancellation.ts';
import type { Clock, WallClock } from '../base/clock.ts';
import { InferkvError } from '../base/errors.ts';
import { lengthOfParts, type CallOptions, type PutOptions, type RecordName } from '../stores/store.ts';
import { DirtyRecords, type Dirty, type GivenWrite } from './dirty-records.ts';
import { Flusher, type Attempt, type WriteTarget } from './flusher.ts';
import type { Journal, Noting, Replayed } from './journal.ts';
import { Wakeups } from './wakeups.ts';
import { noCounts, type WriteBackStats, type WriteCounts } from './write-back-stats.ts';
import { Writers, type Waiting } from './writers.ts';

/** How writes are held back. */
export interface WriteBackOptions {
  readonly target: WriteTarget;
  readonly clock: Clock;
  readonly wallClock: WallClock;
  /** What is noted down before it is acknowledged, and what an earlier process left; nothing if left out. It is not closed with this. */
  readonly journal?: Promise<Journal> | undefined;
  /** Bytes that may be acknowledged and not written; 64 MiB if left out. */
  readonly maxDirtyBytes?: number | undefined;
  /** Milliseconds after which a write is on its way at the latest; 5,000 if left out. */
  readonly maxAgeMs?: number | undefined;
  /** Milliseconds that a writer waits for room; 100 if left out. */
  readonly waitMs?: number | undefined;
  /** What becomes of a write that found none: it goes straight to the target, and its writer waits for that, or nowhere. `through` if left out. */
  readonly whenFull?: 'through' | 'drop' | undefined;
  /** Writes at a time; 8 if left out. */
  readonly concurrency?: number | undefined;
}

/** How a write was taken: `back` held, and acknowledged; `through` the target has it; `dropped` nobody promises anything. */
export type TakenWrite = 'back' | 'through' | 'dropped';

/** A write that is held, and on its way into the journal. */
interface Held {
  readonly dirty: Dirty;
  readonly version: number;
  readonly noting: Noting | undefined;
}

const DEFAULT_DIRTY_BYTES = 64 * 2 ** 20;
const DEFAULT_AGE_MS = 5000;
const DEFAULT_WAIT_MS = 100;
const DEFAULT_CONCURRENCY = 8;
const DEFAULT_CLOSE_MS = 5000;

/**
 * Writes that are acknowledged first and made later: together, the last of each name only, within bounds of bytes and age. What
 * is held back is read from here until its target has it. While the target fails it is tried again and again, and nothing that
 * was acknowledged is dropped. Writes of one name come to the target in the order in which they were given.
 */
export class WriteBack {
  readonly #options: WriteBackOptions;
  readonly #maxDirtyBytes: number;
  readonly #records = new DirtyRecords();
  readonly #flusher: Flusher;
  readonly #changes: Wakeups;
  readonly #writers: Writers;
  readonly #backlog = new Map<RecordName, Replayed>();
  readonly #ready: Promise<void>;
  #isReady = false;
  #journal: Journal | undefined;
  /** Where there should be a journal and is none, nothing can be acknowledged before it is written. */
  #hasNoJournal = false;
  #refilling: Promise<void> | undefined;
  #isClosed = false;
  readonly #counts: WriteCounts = noCounts();

  constructor(options: WriteBackOptions) {
    const { target, clock, wallClock, maxAgeMs = DEFAULT_AGE_MS, concurrency = DEFAULT_CONCURRENCY } = options;
    this.#options = options;
    this.#changes = new Wakeups(clock);
    this.#writers = new Writers(this.#changes);
    this.#maxDirtyBytes = options.maxDirtyBytes ?? DEFAULT_DIRTY_BYTES;
    const isPressed = (): boolean => 2 * this.#records.bytes >= this.#maxDirtyBytes || this.#backlog.size > 0;
    const ended = (dirty: Dirty, version: number, attempt: Attempt): void => this.#ended(dirty, version, attempt);
    this.#flusher = new Flusher({
      records: this.#records,
      target,
      clock,
      wallClock,
      maxAgeMs,
      concurrency,
      isPressed,
      ended,
    });
    this.#ready = this.#begin().finally(() => {
      this.#isReady = true;
    });
  }

  /**
   * Takes a write; settles when it is acknowledged.
   *
   * @param parts not to be changed any more
   * @throws InferkvError what the signal stands for, `ERR_INFERKV_CLOSED`, `ERR_INFERKV_STORE_FAILED` where neither the journal
   *   nor the target could be written; the write may happen all the same
   */
  async add(name: RecordName, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<TakenWrite> {
    throwIfAborted(options.signal);
    this.#assertOpen();
    const waiting = this.#writers.enter(name);
    try {
      if (!this.#isReady) await orAborted(this.#ready, options.signal);
      this.#assertOpen();
      const write: GivenWrite = { ...options, name, parts };
      const held = await this.#hold(write, waiting);
      if (waiting.isDiscarded) return 'dropped';
      return held === undefined ? await this.#straight(write, waiting) : await this.#acknowledge(held, options.signal);
    } finally {
      this.#writers.leave(waiting);
    }
  }

  /** Whether an earlier process acknowledged a write of a name that `read` does not show yet, or may have. */
  isUnsure(name: RecordName): boolean {
    return !this.#isReady || this.#backlog.has(name);
  }

  /** The record of a name that its target may not have yet. */
  read(name: RecordName): readonly Uint8Array[] | undefined {
    return this.#records.get(name)?.parts;
  }

  /** Memory has let go of an entry: what is held back of it goes first. */
  evicted(name: RecordName): void {
    this.#flusher.urge(name);
    this.#flusher.pump();
  }

  /** Settles when what is held back now has been written, or cannot be: of one name, or all. While the target fails, that lasts. */
  async flush(name?: RecordName, { signal }: CallOptions = {}): Promise<void> {
    await orAborted(this.#ready, signal);
    const names = name === undefined ? [...this.#records.names(), ...this.#backlog.keys()] : [name];
    const wanted = names.map((each) => ({ name: each, version: this.#records.get(each)?.version ?? 0 }));
    for (const each of names) this.#flusher.urge(each);
    const isDone = (each: { readonly name: RecordName; readonly version: number }): boolean => {
      const dirty = this.#records.get(each.name);
      return (
        !this.#backlog.has(each.name) && (dirty === undefined || (each.version > 0 && dirty.settled >= each.version))
      );
    };
    for (const each of wanted) {
      const look = (): boolean => {
        this.#flusher.urge(each.name);
        this.#flusher.pump();
        return isDone(each);
      };
      await this.#changes.until(look, Number.POSITIVE_INFINITY, signal);
    }
  }

  /**
   * Forgets writes: of one name, or of all that it holds for. Once this has settled none of those that were begun before comes
   * to the target any more, or back from the journal; what was on its way has come, so that a deletion now takes it out.
   */
  async discard(which: RecordName | ((name: RecordName) => boolean), { signal }: CallOptions = {}): Promise<void> {
    const names = this.#forgetAll(which);
    await orAborted(Promise.all(names.map((name) => this.#flusher.idle(name))), signal);
    await this.#settleMarks();
  }

  /** As `discard`, and then deletes: what is given after this call comes to the target after the deletion, and stays. */
  async remove<T>(name: RecordName, remove: () => Promise<T>): Promise<T> {
    this.#forgetAll(name);
    const removed = await this.#flusher.alone(name, remove);
    await this.#settleMarks();
    return removed;
  }

  /** Writes what is held back, as far as that can be done in time; the rest stays in the journal for the next process, if there is one. */
  async close({ deadlineMs = DEFAULT_CLOSE_MS }: { readonly deadlineMs?: number } = {}): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#changes.wake();
    const overtime = new AbortController();
    const timer = this.#options.clock.after(deadlineMs, () => overtime.abort());
    await this.flush(undefined, { signal: overtime.signal }).catch(() => undefined);
    timer.cancel();
    this.#flusher.stop();
    if (this.#journal === undefined) this.#counts.lost += this.#records.size;
  }

  stats(): WriteBackStats {
    const oldest = this.#records.values().next().value;
    return {
      dirtyBytes: this.#records.bytes,
      dirtyEntries: this.#records.size,
      oldestMs: oldest === undefined ? 0 : this.#options.clock.now() - oldest.since,
      backlog: this.#backlog.size,
      ...this.#counts,
    };
  }

  async #begin(): Promise<void> {
    if (this.#options.journal === undefined) return;
    try {
      this.#journal = await this.#options.journal;
    } catch {
      this.#hasNoJournal = true;
      return;
    }
    for (const each of this.#journal.claim(this.#options.target.name)) this.#backlog.set(each.name, each);
    this.#counts.replayed = this.#backlog.size;
    await this.#refill();
  }

  /** Takes in what an earlier process left, as far as there is room. */
  #refill(): Promise<void> {
    this.#refilling ??= this.#refillNow().finally(() => {
      this.#refilling = undefined;
    });
    return this.#refilling;
  }

  async #refillNow(): Promise<void> {
    for (const [name, replayed] of this.#backlog) {
      const { token, expiresAtMs, lengthBytes, order } = replayed;
      const hasRoom = (): boolean =>
        this.#records.size === 0 || this.#records.bytes + lengthBytes <= this.#maxDirtyBytes;
      if (!hasRoom()) break;
      const record = await this.#journal?.load(this.#options.target.name, replayed);
      // Written anew, or invalidated, meanwhile.
      if (this.#backlog.get(name) !== replayed) continue;
      if (record === undefined) this.#forget(name, replayed);
      else if (!hasRoom()) break;
      else {
        this.#backlog.delete(name);
        const dirty = this.#records.hold({ name, parts: [record], token }, expiresAtMs, this.#options.clock.now());
        dirty.order = order;
      }
    }
    this.#flusher.pump();
    this.#changes.wake();
  }

  #forget(name: RecordName, { order }: Replayed): void {
    this.#backlog.delete(name);
    this.#journal?.done(this.#options.target.name, name, order);
    this.#changes.wake();
  }

  /** Forgets what matches wherever it is; gives the names. */
  #forgetAll(which: RecordName | ((name: RecordName) => boolean)): readonly RecordName[] {
    const matches = typeof which === 'string' ? (name: RecordName) => name === which : which;
    this.#writers.discard(matches);
    for (const [name, replayed] of this.#backlog) if (matches(name)) this.#forget(name, replayed);
    const names =
      typeof which === 'string' ? [which] : [...this.#records.names(), ...this.#flusher.busy()].filter(matches);
    for (const name of names) {
      const dirty = this.#records.get(name);
      if (dirty !== undefined && this.#drop(dirty)) this.#counts.discarded++;
    }
    return names;
  }

  /** A disk that fails cannot be told: what its journal brings back then is fenced by epochs alone. */
  async #settleMarks(): Promise<void> {
    await this.#journal?.settleMarks().catch(() => undefined);
  }

  /** Holds a write as soon as there is room; `undefined` if there is none in time. */
  async #hold(write: GivenWrite, waiting: Waiting): Promise<Held | undefined> {
    if (this.#hasNoJournal || lengthOfParts(write.parts) > this.#maxDirtyBytes) return undefined;
    let held: Held | undefined;
    // Room is taken in the turn in which it is seen, so that nobody else takes it, too.
    const take = (): boolean => {
      if (held !== undefined || waiting.isDiscarded || this.#isClosed) return true;
      if (!this.#writers.isNext(waiting) || this.#records.bytesWith(write) > this.#maxDirtyBytes) return false;
      held = this.#take(write);
      this.#writers.letFollow(waiting);
      return true;
    };
    if (!take()) {
      this.#flusher.pump();
      await this.#changes.until(take, this.#options.waitMs ?? DEFAULT_WAIT_MS, write.signal);
    }
    if (held === undefined && !waiting.isDiscarded) this.#assertOpen();
    return held;
  }

  #take(write: GivenWrite): Held {
    const { name, parts, token = 0, ttlMs } = write;
    const { clock, wallClock, target } = this.#options;
    const expiresAtMs = ttlMs === undefined ? Number.POSITIVE_INFINITY : wallClock() + ttlMs;
    if (this.#records.get(name) !== undefined) this.#counts.coalesced++;
    this.#backlog.delete(name);
    const dirty = this.#records.hold(write, expiresAtMs, clock.now());
    const noting = this.#journal?.put(target.name, name, parts, { token, expiresAtMs });
    noting?.noted.catch(() => undefined);
    dirty.order = noting?.order;
    this.#flusher.pump();
    return { dirty, version: dirty.version, noting };
  }

  async #acknowledge({ dirty, version, noting }: Held, signal: AbortSignal | undefined): Promise<TakenWrite> {
    if (noting === undefined) return 'back';
    try {
      await orAborted(noting.noted, signal);
      return 'back';
    } catch (error) {
      if (signal?.aborted === true) throw abortError(signal);
      // It cannot be promised, so it is made at once.
      if (await this.#wroteAtOnce(dirty, version)) return 'through';
      throw error;
    }
  }

  /** Whether the target has a version after the next attempt. */
  async #wroteAtOnce(dirty: Dirty, version: number): Promise<boolean> {
    const { failures } = dirty;
    const isGone = (): boolean => this.#records.get(dirty.name) !== dirty;
    this.#flusher.urge(dirty.name);
    this.#flusher.pump();
    const hasEnded = (): boolean => isGone() || dirty.settled >= version || dirty.failures > failures;
    await this.#changes.until(hasEnded, this.#options.waitMs ?? DEFAULT_WAIT_MS);
    if (dirty.stored < version) return false;
    await this.#settleMarks();
    this.#counts.through++;
    return true;
  }

  /** Writes without holding; what is held of that name, and older, is superseded if that succeeds, and stays if not. */
  async #straight(write: GivenWrite, waiting: Waiting): Promise<TakenWrite> {
    const { name, parts, token, ttlMs, signal } = write;
    if (this.#options.whenFull === 'drop' && !this.#hasNoJournal) {
      this.#counts.dropped++;
      return 'dropped';
    }
    const isNext = (): boolean => waiting.isDiscarded || this.#writers.isNext(waiting);
    if (!isNext()) await this.#changes.until(isNext, Number.POSITIVE_INFINITY, signal);
    const older = this.#records.get(name)?.version ?? 0;
    const writing = this.#flusher.alone(name, async () => {
      if (waiting.isDiscarded || signal?.aborted === true) return undefined;
      const options = { ...(ttlMs !== undefined && { ttlMs }), ...(token !== undefined && { token }), signal };
      const outcome = await this.#options.target.put(name, parts, options).catch(() => undefined);
      if (outcome !== 'stored') return outcome;
      const replayed = this.#backlog.get(name);
      if (replayed !== undefined) this.#forget(name, replayed);
      const dirty = this.#records.get(name);
      if (dirty !== undefined && dirty.version <= older) this.#drop(dirty);
      return outcome;
    });
    this.#writers.letFollow(waiting);
    const isThrough = (await orAborted(writing, signal)) === 'stored';
    // Else an older one could come back from the journal.
    if (isThrough) await this.#settleMarks();
    this.#counts[isThrough ? 'through' : 'dropped']++;
    return isThrough ? 'through' : 'dropped';
  }

  #ended(dirty: Dirty, version: number, attempt: Attempt): void {
    if (attempt === 'failed') this.#counts.retried++;
    else {
      if (attempt === 'stored') dirty.stored = version;
      dirty.settled = version;
      this.#counts[attempt === 'stored' ? 'flushed' : attempt === 'expired' ? 'expired' : 'refused']++;
      if (dirty.version === version) this.#drop(dirty);
    }
    this.#changes.wake();
  }

  /** Lets go of what is written or not wanted any more. */
  #drop(dirty: Dirty): boolean {
    if (!this.#records.drop(dirty)) return false;
    if (dirty.order !== undefined) this.#journal?.done(this.#options.target.name, dirty.name, dirty.order);
    this.#changes.wake();
    if (this.#backlog.size > 0) void this.#refill();
    return true;
  }

  #assertOpen(): void {
    if (this.#isClosed)
      throw new InferkvError('ERR_INFERKV_CLOSED', 'Writes are not taken any more: the cache is closed.');
  }
}
