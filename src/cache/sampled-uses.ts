import type { UsedEntries, UseSampler } from '../telemetry/use-listener.ts';
import type { EntryTable } from './entry-table.ts';
import { identityOf, type KeyIndex } from './key-index.ts';
import type { Key } from './partition.ts';

const FIRST_CAPACITY = 64;

/** What a partition keeps for whoever samples its uses: a mark for each slot, so that a hit needs no hash and no call. Takes 4 bytes a slot. */
export class SampledUses implements UsedEntries {
  readonly #sampler: UseSampler;
  readonly #index: KeyIndex;
  readonly #table: EntryTable<unknown>;
  #marks = new Int32Array(FIRST_CAPACITY);

  constructor(sampler: UseSampler, index: KeyIndex, table: EntryTable<unknown>) {
    this.#sampler = sampler;
    this.#index = index;
    this.#table = table;
  }

  /** Marks the slot of an entry that came. */
  enter(slot: number): void {
    if (slot >= this.#marks.length) this.#grow();
    this.#marks[slot] = this.#sampler.markOf(this.#index.hashAt(slot));
  }

  /** A use of what was not there; the hits before it are told already. */
  miss(key: Key, chargedBytes: number, costMs: number): void {
    const hash = this.#index.hashOfKey(key);
    if (!this.#sampler.wantsMark(this.#sampler.markOf(hash))) return;
    this.#sampler.usedAs(hash, identityOf(key) | 0, chargedBytes, costMs);
  }

  readonly hits = (slots: Int32Array, count: number): void => {
    this.#sampler.hits(slots, count, this.#marks, this);
  };

  hashOf(slot: number): number {
    return this.#index.hashAt(slot);
  }

  fingerprintOf(slot: number): number {
    return identityOf(this.#index.keyOf(slot)) | 0;
  }

  chargedBytes(slot: number): number {
    return this.#table.chargedBytes(slot);
  }

  costMs(slot: number): number {
    return this.#table.costMs(slot);
  }

  #grow(): void {
    const marks = new Int32Array(2 * this.#marks.length);
    marks.set(this.#marks);
    this.#marks = marks;
  }
}
