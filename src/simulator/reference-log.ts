import { grown } from '../policies/growing.ts';
import type { RequestBatch } from './request-batch.ts';

const FIRST_CAPACITY = 1024;
const EMPTY = 0;

/** Where a reference's entry is not asked for again. */
export const NEVER = 0xffff_ffff;

/**
 * A whole trace, for bounds that look into the future: 20 bytes a reference, and 24 for each different id. Chains are laid
 * down from the last block to the first, as policies see them.
 */
export class ReferenceLog {
  readonly #limit: number;
  #ids = new Uint32Array(FIRST_CAPACITY);
  #sizes = new Float64Array(FIRST_CAPACITY);
  #costs = new Float64Array(FIRST_CAPACITY);
  #length = 0;
  #isFull = false;
  /** Number of an id + 1 at its place or behind it. */
  #table = new Uint32Array(4 * FIRST_CAPACITY);
  #known = new Float64Array(FIRST_CAPACITY);
  #hashes = new Uint32Array(FIRST_CAPACITY);
  #different = 0;

  /** @param limit references past which the log gives up and lets its memory go */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get length(): number {
    return this.#length;
  }

  /** Different ids, numbered from zero in the order of coming. */
  get different(): number {
    return this.#different;
  }

  /** `true` if there were more references than the limit; then it holds nothing. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** The numbers of the ids, reference by reference. */
  get ids(): Uint32Array {
    return this.#ids.subarray(0, this.#length);
  }

  get sizes(): Float64Array {
    return this.#sizes.subarray(0, this.#length);
  }

  get costs(): Float64Array {
    return this.#costs.subarray(0, this.#length);
  }

  /** Adds the references of a batch, with the sizes and costs that replays count. */
  add(batch: RequestBatch, sizeOf: (at: number) => number, costOf: (at: number) => number): void {
    if (this.#isFull) return;
    if (this.#length + batch.length > this.#limit) {
      this.#giveUp();
      return;
    }
    this.#reserve(this.#length + batch.length);
    let from = 0;
    for (let request = 0; request < batch.requests; request++) {
      const to = batch.ends[request] ?? 0;
      for (let at = to - 1; at >= from; at--) {
        const place = this.#length++;
        this.#ids[place] = this.#numberOf(batch.ids[at] ?? 0, batch.hashes[at] ?? 0);
        this.#sizes[place] = sizeOf(at);
        this.#costs[place] = costOf(at);
      }
      from = to;
    }
  }

  /** Where each reference's entry is asked for the next time, or `NEVER`. */
  nextUses(): Uint32Array {
    const next = new Uint32Array(this.#length);
    const last = new Uint32Array(this.#different).fill(NEVER);
    for (let at = this.#length - 1; at >= 0; at--) {
      const id = this.#ids[at] ?? 0;
      next[at] = last[id] ?? NEVER;
      last[id] = at;
    }
    return next;
  }

  #numberOf(id: number, hash: number): number {
    const mask = this.#table.length - 1;
    let place = hash & mask;
    for (; this.#table[place] !== EMPTY; place = (place + 1) & mask) {
      const number = (this.#table[place] ?? 0) - 1;
      if (this.#known[number] === id) return number;
    }
    const number = this.#different++;
    if (number === this.#known.length) this.#growTable();
    this.#known[number] = id;
    this.#hashes[number] = hash;
    this.#enter(number);
    return number;
  }

  #enter(number: number): void {
    const mask = this.#table.length - 1;
    let place = (this.#hashes[number] ?? 0) & mask;
    while (this.#table[place] !== EMPTY) place = (place + 1) & mask;
    this.#table[place] = number + 1;
  }

  #growTable(): void {
    const capacity = 2 * this.#known.length;
    this.#known = grown(this.#known, capacity);
    this.#hashes = grown(this.#hashes, capacity);
    this.#table = new Uint32Array(4 * capacity);
    for (let number = 0; number < this.#different - 1; number++) this.#enter(number);
  }

  #reserve(length: number): void {
    if (length <= this.#ids.length) return;
    const capacity = Math.max(length, 2 * this.#ids.length);
    this.#ids = grown(this.#ids, capacity);
    this.#sizes = grown(this.#sizes, capacity);
    this.#costs = grown(this.#costs, capacity);
  }

  #giveUp(): void {
    this.#isFull = true;
    this.#length = 0;
    this.#different = 0;
    this.#ids = new Uint32Array(0);
    this.#sizes = new Float64Array(0);
    this.#costs = new Float64Array(0);
    this.#table = new Uint32Array(0);
    this.#known = new Float64Array(0);
    this.#hashes = new Uint32Array(0);
  }
}
