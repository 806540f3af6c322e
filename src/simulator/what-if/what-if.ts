import { createRandom } from '../../base/random.ts';
import type { UsedEntries, UseListener, UseSampler } from '../../telemetry/use-listener.ts';
import { Estimator } from './estimator.ts';
import { keyedHash } from './key-sample.ts';
import { checkWhatIf, NOTED, type WhatIfEstimate, type WhatIfOptions } from './options.ts';
import { ENDS, HOT_PLACES, IN_CHAIN, NOTED as IS_NOTED, ReferenceRing } from './reference-ring.ts';
import { ReplayThread } from './replay-thread.ts';

export type { WhatIfEstimate, WhatIfOptions } from './options.ts';

/** Blocks of one chain that are looked at, at most: a chain must fit into the ring. */
const MOST_BLOCKS = 4096;

/**
 * Caches of other sizes and policies in miniature, which see a sample of the keys of running traffic.
 *
 * ```
 *   the thread that serves                               a thread of its own (or the same)
 *   use -> mark (31 bits of a keyed hash) <= last?  -> ring -> Estimator: hot keys, shadow caches
 *       -> one of 32                                -> ring -> counts
 * ```
 *
 * While there are few keys all are in the sample, and the figures are exact; then the limit falls. Every use counts for as many
 * as the sample stands for at that moment. Of a chain the blocks in the sample are a chain again, which ends where the first of
 * them is missing. docs/what-if.md has the errors that were measured.
 *
 * The thread starts with the first thousand records and keeps no process alive. Where it lags, uses are dropped and counted.
 *
 * Memory: per shadow at most 6 times the wanted keys (1.5 in most cases), about 60 bytes an entry and what the policy takes, 50
 * KiB for the sample, 410 KB for the ring, and a few MB for the thread.
 */
export class WhatIf implements UseListener, UseSampler, AsyncDisposable {
  readonly #ring = new ReferenceRing();
  readonly #replay: Estimator | ReplayThread;
  readonly #before: number;
  readonly #within: number;
  #untilNoted = NOTED;

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`, `ERR_INFERKV_POLICY_UNKNOWN` */
  constructor(options: WhatIfOptions) {
    const checked = checkWhatIf(options);
    const random = createRandom(checked.seed);
    this.#before = random.below(2 ** 32) | 0;
    this.#within = random.below(2 ** 32) | 1;
    // Made here in any case: policies that do not exist are told at once, and not by a thread.
    const estimator = new Estimator(checked, this.#ring);
    this.#replay = checked.replay === 'inline' ? estimator : new ReplayThread(checked, this.#ring);
  }

  /** Records that were dropped as the thread lagged behind, or is gone. */
  get dropped(): number {
    return this.#ring.dropped;
  }

  wants(identity: number): boolean {
    return this.wantsMark(this.markOf(identity));
  }

  used(_key: string, identity: number, sizeBytes: number, costMs: number): void {
    this.usedAs(identity, 0, sizeBytes, costMs);
  }

  markOf(hash: number): number {
    return this.#hashOf(hash) >>> 1;
  }

  wantsMark(mark: number): boolean {
    return --this.#untilNoted === 0 || mark <= this.#ring.last;
  }

  usedAs(hash: number, fingerprint: number, sizeBytes: number, costMs: number): void {
    const keyed = this.#hashOf(hash);
    if (this.#untilNoted === 0) {
      this.#untilNoted = NOTED;
      this.#ring.add(keyed, 0, sizeBytes, costMs, IS_NOTED | ENDS);
    }
    if (keyed >>> 1 <= this.#ring.last) this.#ring.add(keyed, fingerprint, sizeBytes, costMs, ENDS);
    this.#end();
  }

  usedChain(_keys: readonly string[], identities: ArrayLike<number>, sizeBytes: number, costMs: number): void {
    const ring = this.#ring;
    const { hot, last } = ring;
    const flags = identities.length > 1 ? IN_CHAIN : 0;
    const length = Math.min(MOST_BLOCKS, identities.length);
    let fits = true;
    for (let at = 0; at < length && fits; at++) {
      const hash = this.#hashOf(identities[at] ?? 0);
      if (--this.#untilNoted <= 0) {
        this.#untilNoted = NOTED;
        fits = ring.add(hash, 0, sizeBytes, costMs, IS_NOTED);
      }
      // Hot blocks are counted whether the sample has them or not.
      if (fits && (hash >>> 1 <= last || (hash !== 0 && hot[hash & (HOT_PLACES - 1)] === hash)))
        fits = ring.add(hash, 0, sizeBytes, costMs, flags);
    }
    if (!fits) ring.takeBack();
    else this.#end();
  }

  hits(slots: Int32Array, count: number, marks: Int32Array, entries: UsedEntries): void {
    const { last } = this.#ring;
    for (let at = 0; at < count; at++) {
      const slot = slots[at] as number;
      if ((marks[slot] as number) <= last) this.#take(slot, entries, ENDS);
    }
    let due = this.#untilNoted - 1;
    for (; due < count; due += NOTED) this.#take(slots[due] as number, entries, IS_NOTED | ENDS);
    this.#untilNoted = due - count + 1;
    this.#end();
  }

  /**
   * What each cache would have given since the beginning, or since `reset`: budgets within policies, as they were given.
   *
   * @throws InferkvError `ERR_INFERKV_WORKER_LOST`, `ERR_INFERKV_CLOSED`
   */
  async estimates(): Promise<readonly WhatIfEstimate[]> {
    this.#ring.publish();
    return this.#replay.estimates();
  }

  /** Begins to count anew; the shadows keep what lies in them, so nothing has to warm up. */
  reset(): void {
    this.#ring.publish();
    this.#replay.reset();
  }

  /** Ends its thread; nothing is counted any more. */
  async close(): Promise<void> {
    await this.#replay.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #take(slot: number, entries: UsedEntries, flags: number): void {
    const hash = this.#hashOf(entries.hashOf(slot));
    // Of one that is noted nobody asks which of the same hash it is.
    const fingerprint = flags === ENDS ? entries.fingerprintOf(slot) : 0;
    this.#ring.add(hash, fingerprint, entries.chargedBytes(slot), entries.costMs(slot), flags);
  }

  #hashOf(hash: number): number {
    return keyedHash(hash, this.#before, this.#within);
  }

  #end(): void {
    if (this.#ring.end()) this.#replay.drain();
  }
}

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`, `ERR_INFERKV_POLICY_UNKNOWN` */
export function createWhatIf(options: WhatIfOptions): WhatIf {
  return new WhatIf(options);
}
