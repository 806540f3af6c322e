import { throwIfAborted } from '../base/cancellation.ts';
import type { Clock, WallClock } from '../base/clock.ts';
import { InferkvError } from '../base/errors.ts';
import { lengthOfParts, type PutOptions, type PutOutcome, type RecordName } from '../stores/store.ts';
import type { Journal, Replayed } from './journal.ts';
import { Wakeups } from './wakeups.ts';

/** Where the writes go in the end. Never throws. */
export interface WriteTarget {
  /** `undefined` if it failed, and may be tried again. */
  put(name: RecordName, parts: readonly Uint8Array[], options?: PutOptions): Promise<PutOutcome | undefined>;
}

/** How writes are held back. */
export interface WriteBackOptions {
  readonly target: WriteTarget;
  readonly clock: Clock;
  readonly wallClock: WallClock;
  /** What is noted down before it is acknowledged, and what an earlier process left; nothing if left out. */
  readonly journal?: Promise<{ readonly journal: Journal; readonly replayed: readonly Replayed[] }> | undefined;
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

/** How a write was taken: `back` held, and acknowledged; `through` the target has it; `dropped` nobody has it. */
export type TakenWrite = 'back' | 'through' | 'dropped';

/** What is counted of writes held back. */
export interface WriteBackStats {
  readonly dirtyBytes: number;
  readonly dirtyEntries: number;
  /** Age of what has been held back longest; 0 if nothing is. */
  readonly oldestMs: number;
  /** Writes that took the place of one of the same name which was never made. */
  readonly coalesced: number;
  readonly flushed: number;
  readonly retried: number;
  readonly through: number;
  readonly dropped: number;
  /** Writes of an earlier process. */
  readonly replayed: number;
  /** Acknowledged, and refused by the target: too large, no room, or out of date. */
  readonly refused: number;
  /** Acknowledged without a journal, and not written when it was closed. */
  readonly lost: number;
  /** Bytes of an earlier journal that could not be read. */
  readonly lostBytes: number;
  readonly journalBytes: number;
}

interface Dirty {
  readonly name: RecordName;
  parts: readonly Uint8Array[];
  bytes: number;
  token: number;
  expiresAtMs: number;
  /** In the journal; 0 if not there. */
  sequence: number;
  /** Grows with each write of this name. */
  version: number;
  readonly since: number;
  /** The write under way. */
  writing: Promise<void> | undefined;
  isGone: boolean;
}

const DEFAULT_DIRTY_BYTES = 64 * 2 ** 20;
const DEFAULT_AGE_MS = 5000;
const DEFAULT_WAIT_MS = 100;
const DEFAULT_CONCURRENCY = 8;
const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 5000;
// The journal also holds what is done by now and lies before what is not.
const JOURNAL_FACTOR = 4;

/**
 * Writes that are acknowledged first and made later: together, the last of each name only, within bounds of bytes and age. What
 * is held back is read from here until its target has it. While the target fails it is tried again and again, and nothing that
 * was acknowledged is dropped.
 */
export class WriteBack {
  readonly #options: WriteBackOptions;
  readonly #clock: Clock;
  readonly #maxDirtyBytes: number;
  readonly #dirty = new Map<RecordName, Dirty>();
  /** To be written without waiting for their age. */
  readonly #urgent = new Set<RecordName>();
  readonly #changes: Wakeups;
  readonly #ready: Promise<Journal | undefined>;
  #journal: Journal | undefined;
  #dirtyBytes = 0;
  #writing = 0;
  #retryMs = 0;
  #timer: { cancel(): void } | undefined;
  #isClosed = false;
  readonly #counts = { coalesced: 0, flushed: 0, retried: 0, through: 0, dropped: 0, replayed: 0, refused: 0, lost: 0 };

  constructor(options: WriteBackOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#changes = new Wakeups(options.clock);
    this.#maxDirtyBytes = options.maxDirtyBytes ?? DEFAULT_DIRTY_BYTES;
    this.#ready = this.#replay();
    // Whoever writes gets the error; before that it is nobody's.
    this.#ready.catch(() => undefined);
  }

  /**
   * Takes a write; settles when it is acknowledged.
   *
   * @param parts not to be changed any more
   * @throws InferkvError what the signal stands for, `ERR_INFERKV_CLOSED`, `ERR_INFERKV_STORE_FAILED` where the journal cannot be used
   */
  async add(name: RecordName, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<TakenWrite> {
    const { signal } = options;
    throwIfAborted(signal);
    this.#assertOpen();
    await this.#ready;
    const bytes = lengthOfParts(parts);
    if (bytes > this.#maxDirtyBytes || !(await this.#makeRoom(name, bytes, signal)))
      return this.#straight(name, parts, options);
    this.#assertOpen();
    const dirty = this.#hold(name, parts, bytes, options);
    const { version } = dirty;
    try {
      await this.#note(dirty);
    } catch (error) {
      // It cannot be promised, so it is made at once.
      if (dirty.version === version) this.#drop(dirty);
      if ((await this.#straight(name, parts, options)) === 'through') return 'through';
      throw error;
    }
    this.#pump();
    return 'back';
  }

  /** The record of a name that its target may not have yet. */
  read(name: RecordName): readonly Uint8Array[] | undefined {
    return this.#dirty.get(name)?.parts;
  }

  /** Memory has let go of an entry: what is held back of it goes first. */
  evicted(name: RecordName): void {
    if (!this.#dirty.has(name)) return;
    this.#urgent.add(name);
    this.#pump();
  }

  /** Settles when what is held back now has been written, or cannot be: of one name, or all. */
  async flush(name?: RecordName): Promise<void> {
    await this.#ready.catch(() => undefined);
    const wanted = name === undefined ? [...this.#dirty.keys()] : [name];
    for (const each of wanted) if (this.#dirty.has(each)) this.#urgent.add(each);
    for (const each of wanted) await this.#settle(each);
  }

  /** Forgets a write; once this has settled its target gets it no more. */
  async discard(name: RecordName): Promise<void> {
    const dirty = this.#dirty.get(name);
    if (dirty === undefined) return;
    this.#drop(dirty);
    await dirty.writing;
  }

  /** Writes what is held back, as far as that can be done in time; the rest stays in the journal for the next process, if there is one. */
  async close({ deadlineMs = 5000 }: { readonly deadlineMs?: number } = {}): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const isOver = Promise.withResolvers<void>();
    const timer = this.#clock.after(deadlineMs, isOver.resolve);
    await Promise.race([this.flush(), isOver.promise]);
    timer.cancel();
    this.#timer?.cancel();
    if (this.#journal === undefined) this.#counts.lost += this.#dirty.size;
    await this.#journal?.close();
  }

  stats(): WriteBackStats {
    const [oldest] = this.#dirty.values();
    return {
      dirtyBytes: this.#dirtyBytes,
      dirtyEntries: this.#dirty.size,
      oldestMs: oldest === undefined ? 0 : this.#clock.now() - oldest.since,
      ...this.#counts,
      lostBytes: this.#journal?.lostBytes ?? 0,
      journalBytes: this.#journal?.bytes ?? 0,
    };
  }

  async #replay(): Promise<Journal | undefined> {
    const opened = await this.#options.journal;
    if (opened === undefined) return undefined;
    const { journal, replayed } = opened;
    this.#journal = journal;
    const now = this.#options.wallClock();
    for (const { name, record, token, expiresAtMs } of replayed) {
      if (expiresAtMs <= now) continue;
      const dirty = this.#hold(name, record, lengthOfParts(record), { token, ttlMs: expiresAtMs - now });
      this.#counts.replayed++;
      await this.#note(dirty);
    }
    await journal.forgetAdopted();
    this.#pump();
    return journal;
  }

  #hold(name: RecordName, parts: readonly Uint8Array[], bytes: number, { ttlMs, token = 0 }: PutOptions): Dirty {
    const expiresAtMs = ttlMs === undefined ? Number.POSITIVE_INFINITY : this.#options.wallClock() + ttlMs;
    const old = this.#dirty.get(name);
    this.#dirtyBytes += bytes - (old?.bytes ?? 0);
    if (old !== undefined) {
      this.#counts.coalesced++;
      Object.assign(old, { parts, bytes, token, expiresAtMs, version: old.version + 1 });
      return old;
    }
    const since = this.#clock.now();
    const dirty: Dirty = {
      name,
      parts,
      bytes,
      token,
      expiresAtMs,
      sequence: 0,
      version: 0,
      since,
      writing: undefined,
      isGone: false,
    };
    this.#dirty.set(name, dirty);
    return dirty;
  }

  async #note(dirty: Dirty): Promise<void> {
    if (this.#journal === undefined) return;
    const { name, parts, token, expiresAtMs } = dirty;
    const sequence = await this.#journal.put(name, parts, { token, expiresAtMs });
    dirty.sequence = Math.max(dirty.sequence, sequence);
    // Written, or not wanted any more, before it was noted down.
    if (dirty.isGone) this.#journal.done(name, sequence);
  }

  /** Whether there is room for so many bytes, in a while at most. */
  async #makeRoom(name: RecordName, bytes: number, signal: AbortSignal | undefined): Promise<boolean> {
    const hasRoom = (): boolean =>
      this.#dirtyBytes + bytes - (this.#dirty.get(name)?.bytes ?? 0) <= this.#maxDirtyBytes;
    if (hasRoom()) return true;
    this.#pump();
    return this.#changes.until(hasRoom, this.#options.waitMs ?? DEFAULT_WAIT_MS, signal);
  }

  async #straight(name: RecordName, parts: readonly Uint8Array[], options: PutOptions): Promise<TakenWrite> {
    if (this.#options.whenFull === 'drop') {
      this.#counts.dropped++;
      return 'dropped';
    }
    // An older write of this name must not come after it.
    await this.discard(name);
    const outcome = await this.#options.target.put(name, parts, options);
    if (outcome === 'stored') this.#counts.through++;
    else this.#counts.dropped++;
    return outcome === 'stored' ? 'through' : 'dropped';
  }

  /** Begins as many writes as may be under way: the urgent ones, those of age, and all where half the room is taken. */
  #pump(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#retryMs > 0 && this.#writing > 0) return;
    const { concurrency = DEFAULT_CONCURRENCY, maxAgeMs = DEFAULT_AGE_MS } = this.#options;
    // While the target fails one write at a time is made, to see.
    const places = this.#retryMs > 0 ? 1 : concurrency;
    while (this.#writing < places) {
      const next = this.#next(maxAgeMs);
      if (next === undefined) break;
      this.#begin(next);
    }
    if (this.#writing >= places || this.#dirty.size === 0) return;
    const waiting = this.#oldestWaiting();
    if (waiting === undefined) return;
    this.#timer = this.#clock.after(Math.max(0, waiting.since + maxAgeMs - this.#clock.now()), () => this.#pump());
  }

  #next(maxAgeMs: number): Dirty | undefined {
    for (const name of this.#urgent) {
      const dirty = this.#dirty.get(name);
      if (dirty === undefined) this.#urgent.delete(name);
      else if (dirty.writing === undefined) return dirty;
    }
    const oldest = this.#oldestWaiting();
    if (oldest === undefined) return undefined;
    const isDue = this.#clock.now() - oldest.since >= maxAgeMs || 2 * this.#dirtyBytes >= this.#maxDirtyBytes;
    return isDue ? oldest : undefined;
  }

  #oldestWaiting(): Dirty | undefined {
    for (const dirty of this.#dirty.values()) if (dirty.writing === undefined) return dirty;
    return undefined;
  }

  #begin(dirty: Dirty): void {
    this.#writing++;
    dirty.writing = this.#write(dirty).finally(() => {
      dirty.writing = undefined;
      this.#writing--;
      if (this.#retryMs === 0) this.#pump();
      else this.#timer ??= this.#clock.after(this.#retryMs, () => this.#pump());
    });
  }

  async #write(dirty: Dirty): Promise<void> {
    const { name, parts, token, expiresAtMs, version } = dirty;
    const ttlMs = expiresAtMs - this.#options.wallClock();
    const isWanted = ttlMs > 0;
    const outcome = isWanted
      ? await this.#options.target.put(name, parts, { token, ...(ttlMs !== Number.POSITIVE_INFINITY && { ttlMs }) })
      : 'superseded';
    if (outcome === undefined) {
      this.#counts.retried++;
      this.#retryMs = Math.min(MAX_RETRY_MS, Math.max(FIRST_RETRY_MS, 2 * this.#retryMs));
      return;
    }
    this.#retryMs = 0;
    if (outcome === 'stored') this.#counts.flushed++;
    else if (isWanted) this.#counts.refused++;
    if (dirty.version === version && !dirty.isGone) this.#drop(dirty);
    this.#compact();
  }

  /** Lets go of what is written or not wanted any more. */
  #drop(dirty: Dirty): void {
    dirty.isGone = true;
    this.#dirty.delete(dirty.name);
    this.#urgent.delete(dirty.name);
    this.#dirtyBytes -= dirty.bytes;
    if (dirty.sequence > 0) this.#journal?.done(dirty.name, dirty.sequence);
    this.#changes.wake();
  }

  /** Notes down again what keeps the journal's oldest file, where the files have become many. */
  #compact(): void {
    const journal = this.#journal;
    if (journal === undefined || journal.bytes <= JOURNAL_FACTOR * this.#maxDirtyBytes) return;
    for (const name of journal.oldest) {
      const dirty = this.#dirty.get(name);
      if (dirty !== undefined) void this.#note(dirty).catch(() => undefined);
    }
  }

  async #settle(name: RecordName): Promise<void> {
    while (this.#dirty.has(name)) {
      this.#pump();
      // Its turn comes when others are done, or when the target is tried again.
      await this.#changes.until(() => !this.#dirty.has(name), MAX_RETRY_MS);
    }
  }

  #assertOpen(): void {
    if (this.#isClosed)
      throw new InferkvError('ERR_INFERKV_CLOSED', 'Writes are not taken any more: the cache is closed.');
  }
}
