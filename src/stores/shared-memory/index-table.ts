import { invariant } from '../../base/assertions.ts';
import { homeOf, TAG_WORD } from './digest.ts';
import type { Memory } from './handle.ts';
import { CELL, HEADER, KEY_WORDS, RECORD } from './layout.ts';

const NONE = -1;

/**
 * The owner's side of the index: an open-addressing table with linear probing, from a key to a slot. Readers probe it at
 * the same time (`lookup.ts`), so a removal closes the gap by copying an entry forward first, then counting the move,
 * and only then using its old cell: a reader that missed it in both places finds that the count has changed.
 *
 * With cells that are merely marked as removed, no entry would ever move; but at a third full the marks fill the table
 * within some hundred turnovers, and a miss then looks at all of it (simulated).
 */
export class IndexTable {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #indexAt: number;
  readonly #recordsAt: number;
  readonly #mask: number;
  readonly #saltA: number;
  readonly #saltB: number;
  readonly #scratch = new Int32Array(KEY_WORDS);
  #version = 0;

  constructor({ words, layout }: Memory) {
    this.#words = words;
    this.#indexAt = layout.indexAt;
    this.#recordsAt = layout.recordsAt;
    this.#mask = layout.cells - 1;
    this.#saltA = words[HEADER.saltA] as number;
    this.#saltB = words[HEADER.saltB] as number;
  }

  /** The slot of a key, or -1. */
  find(key: Int32Array): number {
    let at = this.#home(key);
    for (;;) {
      const entry = this.#entry(at);
      if (entry === 0) return NONE;
      if (this.#hasKey(entry - 1, key)) return entry - 1;
      at = (at + 1) & this.#mask;
    }
  }

  /** Enters the slot of a new key; its record is live already. */
  insert(slot: number): void {
    const key = this.#keyOf(slot);
    let at = this.#home(key);
    while (this.#entry(at) !== 0) at = (at + 1) & this.#mask;
    this.#write(at, slot + 1, key[TAG_WORD] as number);
  }

  /** Enters a slot where another one of the same key stands. */
  replace(slot: number, by: number): void {
    Atomics.store(this.#words, this.#cell(this.#place(slot)) + CELL.slot, by + 1);
  }

  /** Takes a slot out. */
  remove(slot: number): void {
    let hole = this.#place(slot);
    for (let at = (hole + 1) & this.#mask; ; at = (at + 1) & this.#mask) {
      const entry = this.#entry(at);
      if (entry === 0) break;
      const home = this.#home(this.#keyOf(entry - 1));
      // It may move forward only as far as where its probing begins.
      if (((at - home) & this.#mask) < ((at - hole) & this.#mask)) continue;
      this.#write(hole, entry, this.#words[this.#cell(at) + CELL.tag] as number);
      this.#version = (this.#version + 1) | 0;
      Atomics.store(this.#words, HEADER.indexVersion, this.#version);
      hole = at;
    }
    Atomics.store(this.#words, this.#cell(hole) + CELL.slot, 0);
  }

  #write(at: number, entry: number, tag: number): void {
    const cell = this.#cell(at);
    this.#words[cell + CELL.tag] = tag;
    Atomics.store(this.#words, cell + CELL.slot, entry);
  }

  #place(slot: number): number {
    let at = this.#home(this.#keyOf(slot));
    for (let probed = 0; this.#entry(at) !== slot + 1; probed++) {
      invariant(this.#entry(at) !== 0 && probed <= this.#mask, `slot ${slot} is not in the index`);
      at = (at + 1) & this.#mask;
    }
    return at;
  }

  #cell(at: number): number {
    return this.#indexAt + at * CELL.words;
  }

  #entry(at: number): number {
    return this.#words[this.#cell(at) + CELL.slot] as number;
  }

  #home(key: Int32Array): number {
    return homeOf(key, this.#saltA, this.#saltB) & this.#mask;
  }

  /** The key of a slot, in scratch memory that the next call uses again. */
  #keyOf(slot: number): Int32Array {
    const from = this.#recordsAt + slot * RECORD.words + RECORD.key;
    for (let word = 0; word < KEY_WORDS; word++) this.#scratch[word] = this.#words[from + word] as number;
    return this.#scratch;
  }

  #hasKey(slot: number, key: Int32Array): boolean {
    const from = this.#recordsAt + slot * RECORD.words + RECORD.key;
    for (let word = 0; word < KEY_WORDS; word++) if (this.#words[from + word] !== key[word]) return false;
    return true;
  }
}
