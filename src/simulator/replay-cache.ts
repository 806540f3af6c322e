import { createRandom, type Random } from '../base/random.ts';
import { invariant } from '../base/assertions.ts';
import type { Admission, AdmissionContext } from '../policies/admission.ts';
import { grown } from '../policies/growing.ts';
import type { Departure, Policy, PolicyContext, PolicyFactory } from '../policies/policy.ts';
import { costOf, sizeOf, type RequestBatch } from './request-batch.ts';

const FIRST_SLOTS = 1024;

/** What a replay counts. */
export interface ReplayCounts {
  readonly references: number;
  readonly hits: number;
  /** Bytes asked for, and found. */
  readonly bytes: number;
  readonly hitBytes: number;
  /** Milliseconds it would take without a cache, and what hits saved of them. */
  readonly costMs: number;
  readonly savedMs: number;
}

/** How a replay counts sizes and what else it needs to know. */
export interface ReplayCacheOptions {
  readonly budget: number;
  /** `true` if every entry takes one unit of the budget, whatever the trace says. */
  readonly unitSizes: boolean;
  readonly policy: PolicyFactory;
  readonly admission?: ((context: AdmissionContext) => Admission) | undefined;
  readonly seed: number;
}

/**
 * A partition without values: the same policies decide over the same slots and budget, and every miss is put in at once.
 * Nothing is ever pinned.
 *
 * Of a chain counts as hit what an engine could use: the longest run from the start that lies here when the request comes.
 * Then the policy sees every block of it, from the last to the first, so that a chain loses its end before its root: `touch`
 * for what lies here (behind a gap too), `insert` for what does not.
 *
 * Memory follows the entries that fit the budget, not the trace: ids lie in an open hash table beside the slots.
 */
export class ReplayCache implements PolicyContext, AdmissionContext {
  #budgetBytes: number;
  readonly #unitSizes: boolean;
  readonly #policy: Policy;
  readonly #admission: Admission | undefined;
  readonly #random: Random;
  /** Slot + 1 at the id's place or behind it, 0 where it is empty. */
  #table = new Int32Array(4 * FIRST_SLOTS);
  #ids = new Float64Array(FIRST_SLOTS);
  #hashes = new Uint32Array(FIRST_SLOTS);
  #sizes = new Float64Array(FIRST_SLOTS);
  #costs = new Float64Array(FIRST_SLOTS);
  #freeSlots = new Int32Array(FIRST_SLOTS);
  #free = 0;
  #slots = 0;
  #used = 0;
  #now = 0;
  #references = 0;
  #hits = 0;
  #bytes = 0;
  #hitBytes = 0;
  #costMs = 0;
  #savedMs = 0;

  constructor(options: ReplayCacheOptions) {
    this.#budgetBytes = options.budget;
    this.#unitSizes = options.unitSizes;
    this.#random = createRandom(options.seed);
    this.#policy = options.policy(this);
    this.#admission = options.admission?.(this);
  }

  get budgetBytes(): number {
    return this.#budgetBytes;
  }

  sizeBytes(slot: number): number {
    return this.#sizes[slot] ?? 0;
  }

  costMs(slot: number): number {
    return this.#costs[slot] ?? 0;
  }

  identity(slot: number): number {
    return this.#hashes[slot] ?? 0;
  }

  parent(): number {
    return -1;
  }

  isPinned(): boolean {
    return false;
  }

  now(): number {
    return this.#now;
  }

  random(): number {
    return this.#random.next();
  }

  entries(): number {
    return this.#slots - this.#free;
  }

  /** Units of the budget in use, never more than the budget. */
  get used(): number {
    return this.#used;
  }

  counts(): ReplayCounts {
    return {
      references: this.#references,
      hits: this.#hits,
      bytes: this.#bytes,
      hitBytes: this.#hitBytes,
      costMs: this.#costMs,
      savedMs: this.#savedMs,
    };
  }

  /** Replays the requests of a batch. */
  replay(batch: RequestBatch): void {
    let from = 0;
    for (let request = 0; request < batch.requests; request++) {
      const to = batch.ends[request] ?? 0;
      this.#now = batch.times[request] ?? 0;
      if (to - from > 1) this.#countRun(batch, from, to);
      for (let at = to - 1; at >= from; at--) this.#refer(batch, at, to - from === 1);
      from = to;
    }
    this.#references += batch.length;
  }

  /** Another budget from now on; what no longer fits is evicted. */
  setBudget(budget: number): void {
    this.#budgetBytes = budget;
    this.#evictUntil(budget);
  }

  /** Lets go of every entry whose id is not below that. */
  keepBelow(limit: number): void {
    const slots = this.#table.filter((held) => held > 0 && (this.#ids[held - 1] ?? 0) >= limit);
    for (const held of slots) this.#leave(held - 1, 'removed');
  }

  /** Counts what of a chain could be used: the longest run from its start that lies here. */
  #countRun(batch: RequestBatch, from: number, to: number): void {
    for (let at = from; at < to; at++) {
      if (this.#find(batch.ids[at] ?? 0, batch.hashes[at] ?? 0) < 0) return;
      this.#countHit(sizeOf(batch, at), costOf(batch, at));
    }
  }

  #countHit(bytes: number, costMs: number): void {
    this.#hits++;
    this.#hitBytes += bytes;
    this.#savedMs += costMs;
  }

  #refer(batch: RequestBatch, at: number, isAlone: boolean): void {
    const id = batch.ids[at] ?? 0;
    const hash = batch.hashes[at] ?? 0;
    const bytes = sizeOf(batch, at);
    const costMs = costOf(batch, at);
    const size = this.#unitSizes ? 1 : bytes;
    this.#bytes += bytes;
    this.#costMs += costMs;
    this.#admission?.record(hash);
    const slot = this.#find(id, hash);
    if (slot < 0) {
      this.#insert(id, hash, size, costMs);
      return;
    }
    if (isAlone) this.#countHit(bytes, costMs);
    this.#policy.touch(slot);
    if (this.#sizes[slot] !== size) this.#resize(slot, size);
  }

  #find(id: number, hash: number): number {
    const table = this.#table;
    const mask = table.length - 1;
    for (let place = hash & mask; ; place = (place + 1) & mask) {
      const slot = (table[place] ?? 0) - 1;
      if (slot < 0 || this.#ids[slot] === id) return slot;
    }
  }

  #insert(id: number, hash: number, size: number, costMs: number): void {
    if (size > this.#budgetBytes) return;
    if (this.#used + size > this.#budgetBytes) {
      if (this.#admission !== undefined && !this.#isAdmitted(this.#admission, hash, size, costMs)) return;
      this.#evictUntil(this.#budgetBytes - size);
    }
    const slot = this.#free > 0 ? (this.#freeSlots[--this.#free] ?? 0) : this.#slots++;
    if (slot === this.#ids.length) this.#grow();
    this.#ids[slot] = id;
    this.#hashes[slot] = hash;
    this.#sizes[slot] = size;
    this.#costs[slot] = costMs;
    this.#used += size;
    this.#enter(slot);
    this.#policy.insert(slot);
  }

  #isAdmitted(admission: Admission, hash: number, size: number, costMs: number): boolean {
    const victim = this.#policy.victim();
    if (victim < 0) return true;
    return admission.admits(
      hash,
      size,
      costMs,
      this.#hashes[victim] ?? 0,
      this.#sizes[victim] ?? 0,
      this.#costs[victim] ?? 0,
    );
  }

  /** What is found with another size has been made anew; others make room for it. */
  #resize(slot: number, size: number): void {
    if (size > this.#budgetBytes) {
      this.#leave(slot, 'removed');
      return;
    }
    this.#used += size - (this.#sizes[slot] ?? 0);
    this.#sizes[slot] = size;
    this.#policy.update(slot);
    this.#evictUntil(this.#budgetBytes);
  }

  #evictUntil(used: number): void {
    while (this.#used > used) {
      const victim = this.#policy.victim();
      invariant(victim >= 0, `policy ${this.#policy.name} found no victim in a full cache`);
      this.#leave(victim, 'evicted');
    }
  }

  #leave(slot: number, why: Departure): void {
    this.#policy.leave(slot, why);
    this.#used -= this.#sizes[slot] ?? 0;
    this.#forget(slot);
    this.#freeSlots[this.#free++] = slot;
  }

  #enter(slot: number): void {
    const table = this.#table;
    const mask = table.length - 1;
    let place = (this.#hashes[slot] ?? 0) & mask;
    while (table[place] !== 0) place = (place + 1) & mask;
    table[place] = slot + 1;
  }

  /** Takes a slot out of the table; those behind it move up, so that no search ends too early. */
  #forget(slot: number): void {
    const table = this.#table;
    const mask = table.length - 1;
    let hole = (this.#hashes[slot] ?? 0) & mask;
    while (table[hole] !== slot + 1) hole = (hole + 1) & mask;
    for (let place = (hole + 1) & mask; table[place] !== 0; place = (place + 1) & mask) {
      const home = (this.#hashes[(table[place] ?? 0) - 1] ?? 0) & mask;
      if (((place - home) & mask) < ((place - hole) & mask)) continue;
      table[hole] = table[place] ?? 0;
      hole = place;
    }
    table[hole] = 0;
  }

  #grow(): void {
    const slots = 2 * this.#ids.length;
    this.#ids = grown(this.#ids, slots);
    this.#hashes = grown(this.#hashes, slots);
    this.#sizes = grown(this.#sizes, slots);
    this.#costs = grown(this.#costs, slots);
    this.#freeSlots = grown(this.#freeSlots, slots);
    // Only a full cache grows, and its newest slot is not in the table yet.
    this.#table = new Int32Array(4 * slots);
    for (let slot = 0; slot < this.#slots - 1; slot++) this.#enter(slot);
  }
}
