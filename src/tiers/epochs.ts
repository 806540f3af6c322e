import { isInferkvError } from '../base/errors.ts';
import type { Clock } from '../base/clock.ts';
import type { TagEpoch } from '../stores/record.ts';
import type { EpochAuthority } from '../stores/store.ts';

/** What epochs are kept by. */
export interface EpochsOptions {
  /** Where all nodes have them; without one this process has its own, which nothing that it wrote outlives. */
  readonly authority: EpochAuthority | undefined;
  readonly clock: Clock;
  /** The first number where there is no authority: never one that an earlier process gave. */
  readonly base: number;
  /** Milliseconds for which what is known counts while it may be out of date; 5,000 if left out. */
  readonly maxStaleMs?: number | undefined;
  /** Tags that are known at a time; 100,000 if left out. What lies in memory under one that is forgotten leaves. */
  readonly maxTags?: number | undefined;
}

/** What records are told by: `unknown` where the authority could not be asked. */
export type EpochVerdict = 'current' | 'stale' | 'unknown';

/** What is counted of epochs. */
export interface EpochStats {
  readonly tags: number;
  readonly isTrusted: boolean;
  /** Invalidations that others told of. */
  readonly heard: number;
  /** Times that something may have been missed, so that everything was read again. */
  readonly gaps: number;
  /** Numbers that could not be read or raised at once. */
  readonly failures: number;
  /** Invalidations made here that the authority has not heard of yet. */
  readonly pending: number;
}

interface Known {
  readonly epoch: number;
  readonly readAtMs: number;
}

const DEFAULT_MAX_STALE_MS = 5000;
const DEFAULT_MAX_TAGS = 100_000;
const BATCH = 512;
const RETRY_MS = 250;

/**
 * What this node knows of the epochs of tags, and whether that can be believed. An authority that tells of every change is
 * believed as long as it does; one that does not is asked again and again. Either way, what may be out of date counts for
 * `maxStaleMs` and then not any more.
 */
export class Epochs {
  readonly #clock: Clock;
  readonly #authority: EpochAuthority | undefined;
  readonly #base: number;
  readonly #maxStaleMs: number;
  readonly #maxTags: number;
  readonly #known = new Map<string, Known>();
  /** Invalidated here; what their numbers are now only the authority can say, and it has not been reached. */
  readonly #pending = new Map<string, number>();
  readonly #listeners: ((tag: string) => void)[] = [];
  readonly #end: (() => Promise<void>) | undefined;
  /** Since when changes may have been missed; `undefined` while all are told. */
  #unsureSinceMs: number | undefined;
  #isTrusted = true;
  #distrustTimer: { cancel(): void } | undefined;
  #syncTimer: { cancel(): void } | undefined;
  #isSyncing = false;
  /** The authority tells of changes at this moment. */
  #isLineUp = false;
  /** Something may have been missed, and has not been read again yet. */
  #owesSync = false;
  /** Grows whenever something may be missed: what was read before does not count. */
  #generation = 0;
  #isClosed = false;
  /** Grows whenever trust is lost: names what is computed meanwhile. */
  distrusted = 0;
  #heard = 0;
  #gaps = 0;
  #failures = 0;

  constructor({ authority, clock, base, maxStaleMs, maxTags }: EpochsOptions) {
    this.#authority = authority;
    this.#clock = clock;
    this.#base = base;
    this.#maxStaleMs = maxStaleMs ?? DEFAULT_MAX_STALE_MS;
    this.#maxTags = maxTags ?? DEFAULT_MAX_TAGS;
    if (authority === undefined) return;
    this.#lost();
    this.#end = authority.subscribe?.({
      bumped: (scope, epoch) => {
        this.#heard++;
        this.#learn(scope, epoch);
      },
      inStep: (isWhole) => {
        this.#isLineUp = true;
        if (!isWhole) this.#missed();
        else if (!this.#owesSync) this.#trust(this.#clock.now());
      },
      lost: () => {
        this.#isLineUp = false;
        this.#generation++;
        this.#lost();
      },
    });
    if (authority.subscribe === undefined) this.#syncLater(this.#pollMs);
  }

  /** Whether what lies in memory may be served: an invalidation cannot have been missed for longer than `maxStaleMs`. */
  get isTrusted(): boolean {
    return this.#isTrusted;
  }

  /** Calls back for every tag under which things are out of date from now on, whoever invalidated it. */
  onInvalidated(listener: (tag: string) => void): void {
    this.#listeners.push(listener);
  }

  /** The numbers of tags, if all are known and good; asks nobody. */
  present(tags: readonly string[]): readonly number[] | undefined {
    const epochs: number[] = [];
    for (const tag of tags) {
      const epoch = this.#presentOf(tag);
      if (epoch === undefined) return undefined;
      epochs.push(epoch);
    }
    return epochs;
  }

  /** The numbers of tags; those that are not known are read. `undefined` if they cannot be. */
  async ready(tags: readonly string[], signal?: AbortSignal): Promise<readonly number[] | undefined> {
    const present = this.present(tags);
    if (present !== undefined || this.#authority === undefined) return present;
    try {
      await this.#read(tags, signal);
      return this.present(tags);
    } catch (error) {
      if (!isInferkvError(error)) throw error;
      this.#failures++;
      return undefined;
    }
  }

  /** Whether nothing is known that would put out of date what was begun under these numbers. */
  areStill(tags: readonly string[], epochs: readonly number[]): boolean {
    return tags.every((tag, at) => {
      if (this.#pending.has(tag)) return false;
      // What was forgotten meanwhile may have changed.
      return (this.#known.get(tag)?.epoch ?? (this.#authority === undefined ? this.#base : undefined)) === epochs[at];
    });
  }

  /** Whether a record was made under the present numbers. */
  async check(tags: readonly TagEpoch[], signal?: AbortSignal): Promise<EpochVerdict> {
    const names = tags.map(({ tag }) => tag);
    let epochs = this.present(names) ?? (await this.ready(names, signal));
    // Made under a number that is not known here yet.
    if (epochs !== undefined && tags.some(({ epoch }, at) => epoch > (epochs?.[at] as number))) {
      const isRead = await this.#read(names, signal).then(
        () => true,
        () => false,
      );
      epochs = isRead ? this.present(names) : undefined;
    }
    if (epochs === undefined) return 'unknown';
    return tags.every(({ epoch }, at) => epoch === epochs[at]) ? 'current' : 'stale';
  }

  /**
   * Puts everything under these tags out of date: here at once, everywhere when it settles. Where the authority cannot be reached
   * it goes on trying; until then nothing of these tags is taken from the tiers here.
   */
  async bump(tags: readonly string[]): Promise<void> {
    if (this.#authority === undefined) {
      for (const tag of tags) this.#learn(tag, (this.#known.get(tag)?.epoch ?? this.#base) + 1);
      return;
    }
    for (const tag of tags) {
      this.#pending.set(tag, (this.#pending.get(tag) ?? 0) + 1);
      for (const listener of this.#listeners) listener(tag);
    }
    // Each invalidation raises the numbers itself: between two, somebody may have written under those of the first.
    while (!this.#isClosed) {
      try {
        const epochs = await this.#authority.bump(tags);
        for (const [at, tag] of tags.entries()) {
          const left = (this.#pending.get(tag) ?? 1) - 1;
          if (left === 0) this.#pending.delete(tag);
          else this.#pending.set(tag, left);
          this.#learn(tag, epochs[at] ?? 0);
        }
        return;
      } catch {
        this.#failures++;
        await new Promise<void>((resolve) => void this.#clock.after(RETRY_MS, resolve));
      }
    }
  }

  stats(): EpochStats {
    return {
      tags: this.#known.size,
      isTrusted: this.#isTrusted,
      heard: this.#heard,
      gaps: this.#gaps,
      failures: this.#failures,
      pending: this.#pending.size,
    };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#distrustTimer?.cancel();
    this.#syncTimer?.cancel();
    await this.#end?.();
  }

  get #pollMs(): number {
    return this.#maxStaleMs / 2;
  }

  #presentOf(tag: string): number | undefined {
    if (this.#pending.has(tag)) return undefined;
    const known = this.#known.get(tag);
    if (this.#authority === undefined) return known?.epoch ?? this.#base;
    if (known === undefined) return undefined;
    if (this.#unsureSinceMs === undefined) return known.epoch;
    const since = Math.max(known.readAtMs, this.#unsureSinceMs);
    return this.#clock.now() - since <= this.#maxStaleMs ? known.epoch : undefined;
  }

  async #read(tags: readonly string[], signal?: AbortSignal): Promise<void> {
    const epochs = (await this.#authority?.read(tags, { signal })) ?? [];
    for (const [at, tag] of tags.entries()) this.#learn(tag, epochs[at] ?? 0);
  }

  /** Takes a number in; one that is greater than what was known, or never known, puts out of date what lies here. */
  #learn(tag: string, epoch: number): void {
    const known = this.#known.get(tag)?.epoch;
    // Something later was heard of while this was on its way.
    if (known !== undefined && known > epoch) return;
    this.#known.delete(tag);
    this.#known.set(tag, { epoch, readAtMs: this.#clock.now() });
    if (known !== epoch) for (const listener of this.#listeners) listener(tag);
    const [oldest] = this.#known.keys();
    if (this.#known.size <= this.#maxTags || oldest === undefined) return;
    this.#known.delete(oldest);
    for (const listener of this.#listeners) listener(oldest);
  }

  #lost(): void {
    if (this.#unsureSinceMs !== undefined || this.#isClosed) return;
    this.#unsureSinceMs = this.#clock.now();
    this.#distrustLater();
  }

  #distrustLater(): void {
    this.#distrustTimer?.cancel();
    this.#distrustTimer = this.#clock.after(this.#maxStaleMs, () => {
      this.#isTrusted = false;
      this.distrusted++;
    });
  }

  /** Everything is known as of a moment. */
  #trust(sinceMs: number): void {
    if (this.#isClosed) return;
    this.#isTrusted = true;
    this.#distrustTimer?.cancel();
    if (this.#authority?.subscribe !== undefined) this.#unsureSinceMs = undefined;
    else {
      this.#unsureSinceMs = sinceMs;
      this.#distrustLater();
    }
  }

  /** Something may have been missed: every number that is known is read again, before it is believed. */
  #missed(): void {
    this.#gaps++;
    this.#generation++;
    this.#owesSync = true;
    this.#lost();
    if (!this.#isSyncing) void this.#readAll();
  }

  #syncLater(delayMs: number): void {
    if (this.#isClosed) return;
    this.#syncTimer = this.#clock.after(delayMs, () => {
      void this.#readAll().finally(() => this.#syncLater(this.#pollMs));
    });
  }

  async #readAll(): Promise<void> {
    this.#isSyncing = true;
    while (this.#isSyncing && !this.#isClosed) {
      const generation = this.#generation;
      const startMs = this.#clock.now();
      try {
        const tags = [...this.#known.keys()];
        for (let at = 0; at < tags.length; at += BATCH) await this.#read(tags.slice(at, at + BATCH));
        // Something else may have been missed while this was read.
        if (generation !== this.#generation && this.#isLineUp) continue;
        this.#isSyncing = false;
        if (generation !== this.#generation) return;
        this.#owesSync = false;
        this.#trust(startMs);
      } catch {
        this.#failures++;
        await new Promise<void>((resolve) => void this.#clock.after(RETRY_MS, resolve));
      }
    }
  }
}
