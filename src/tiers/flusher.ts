import type { Clock, WallClock } from '../base/clock.ts';
import type { PutOptions, PutOutcome, RecordName } from '../stores/store.ts';
import type { Dirty, DirtyRecords } from './dirty-records.ts';

/** Where the writes go in the end. Never throws. */
export interface WriteTarget {
  /** What the journal calls it by. */
  readonly name: string;
  /** `undefined` if it failed, and may be tried again. */
  put(name: RecordName, parts: readonly Uint8Array[], options?: PutOptions): Promise<PutOutcome | undefined>;
}

/** What became of one attempt: as the target said, `failed`, or `expired`: nobody wanted it any more. */
export type Attempt = PutOutcome | 'failed' | 'expired';

/** What a flusher is made of. */
export interface FlusherOptions {
  readonly records: DirtyRecords;
  readonly target: WriteTarget;
  readonly clock: Clock;
  readonly wallClock: WallClock;
  readonly maxAgeMs: number;
  readonly concurrency: number;
  /** Whether records are to go without waiting for their age. */
  readonly isPressed: () => boolean;
  /** An attempt to write that version of a record has ended. */
  readonly ended: (dirty: Dirty, version: number, attempt: Attempt) => void;
}

const FIRST_RETRY_MS = 50;
const MAX_RETRY_MS = 5000;

/**
 * Writes dirty records to their target: the urgent ones, those of age, and all when pressed; several at a time, but never two
 * of the same name. While the target fails one is tried now and then, each time another, so that no record stands in the way
 * of the rest.
 */
export class Flusher {
  readonly #options: FlusherOptions;
  /** What goes on for a name, one after the other. */
  readonly #lanes = new Map<RecordName, Promise<unknown>>();
  /** To be written without waiting for their age. */
  readonly #urgent = new Set<RecordName>();
  #writing = 0;
  #retryMs = 0;
  /** Grows with each failure: those that began before it say nothing new. */
  #round = 0;
  #notBeforeMs = Number.NEGATIVE_INFINITY;
  #timer: { cancel(): void } | undefined;
  #isStopped = false;

  constructor(options: FlusherOptions) {
    this.#options = options;
  }

  /** Has a record written before others. */
  urge(name: RecordName): void {
    if (this.#options.records.get(name) !== undefined) this.#urgent.add(name);
  }

  /** Does something when nothing else goes on for a name, and keeps everything else away meanwhile. */
  alone<T>(name: RecordName, work: () => Promise<T>): Promise<T> {
    const before = this.#lanes.get(name);
    const lane = (before ?? Promise.resolve()).then(work, work).finally(() => {
      if (this.#lanes.get(name) !== lane) return;
      this.#lanes.delete(name);
      this.pump();
    });
    lane.catch(() => undefined);
    this.#lanes.set(name, lane);
    return lane;
  }

  /** Names for which something goes on. */
  busy(): readonly RecordName[] {
    return [...this.#lanes.keys()];
  }

  /** Settles when what goes on now for a name has ended. */
  async idle(name: RecordName): Promise<void> {
    await this.#lanes.get(name)?.catch(() => undefined);
  }

  /** Begins as many writes as may be under way. */
  pump(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#isStopped) return;
    // While the target fails one write at a time is made, to see.
    const places = this.#retryMs > 0 ? 1 : this.#options.concurrency;
    let next = this.#next();
    while (this.#writing < places && typeof next === 'object') {
      this.#begin(next);
      next = this.#next();
    }
    if (this.#writing >= places || typeof next !== 'number') return;
    const { clock } = this.#options;
    this.#timer = clock.after(Math.max(0, next - clock.now()), () => this.pump());
  }

  /** Begins nothing any more. */
  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  /** What is to be written now, or when to look again, if ever. */
  #next(): Dirty | number | undefined {
    const { records, clock, maxAgeMs, isPressed } = this.#options;
    const nowMs = clock.now();
    if (records.size === 0) return undefined;
    if (nowMs < this.#notBeforeMs) return this.#notBeforeMs;
    let againMs = Number.POSITIVE_INFINITY;
    for (const name of this.#urgent) {
      const dirty = records.get(name);
      if (dirty === undefined) this.#urgent.delete(name);
      else if (!this.#lanes.has(name)) {
        if (dirty.notBeforeMs <= nowMs) return dirty;
        againMs = Math.min(againMs, dirty.notBeforeMs);
      }
    }
    for (const dirty of records.values()) {
      if (this.#lanes.has(dirty.name)) continue;
      const dueMs = isPressed() ? dirty.notBeforeMs : Math.max(dirty.since + maxAgeMs, dirty.notBeforeMs);
      if (dueMs <= nowMs) return dirty;
      againMs = Math.min(againMs, dueMs);
      // Those behind are younger.
      if (dirty.failures === 0) break;
    }
    return againMs === Number.POSITIVE_INFINITY ? undefined : againMs;
  }

  #begin(dirty: Dirty): void {
    this.#writing++;
    void this.alone(dirty.name, async () => {
      const { version } = dirty;
      const round = this.#round;
      const attempt = await this.#attempt(dirty);
      this.#writing--;
      this.#judge(dirty, attempt, round);
      this.#options.ended(dirty, version, attempt);
    });
  }

  async #attempt(dirty: Dirty): Promise<Attempt> {
    const { target, wallClock } = this.#options;
    const { name, parts, token, expiresAtMs } = dirty;
    const ttlMs = expiresAtMs - wallClock();
    if (ttlMs <= 0) return 'expired';
    const options = { token, ...(ttlMs !== Number.POSITIVE_INFINITY && { ttlMs }) };
    try {
      return (await target.put(name, parts, options)) ?? 'failed';
    } catch {
      return 'failed';
    }
  }

  #judge(dirty: Dirty, attempt: Attempt, round: number): void {
    if (attempt !== 'failed') {
      this.#retryMs = 0;
      this.#notBeforeMs = Number.NEGATIVE_INFINITY;
      dirty.failures = 0;
      this.#urgent.delete(dirty.name);
      return;
    }
    const nowMs = this.#options.clock.now();
    if (round === this.#round) {
      this.#round++;
      this.#retryMs = Math.min(MAX_RETRY_MS, Math.max(FIRST_RETRY_MS, 2 * this.#retryMs));
      this.#notBeforeMs = nowMs + this.#retryMs;
    }
    dirty.notBeforeMs = nowMs + Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(dirty.failures, 10));
    dirty.failures++;
  }
}
