import type { Memory } from './handle.ts';
import { AREA, generationOf, HITS_PER_THREAD, RECORD } from './layout.ts';

const SLOT_BITS = 24;
/** Slots that a hit can name. */
export const MAX_ENTRIES: number = 2 ** SLOT_BITS;
const SLOT_MASK = MAX_ENTRIES - 1;

/**
 * Tells the owner's policy of this thread's hits, without waiting: a ring in which later hits overwrite the oldest, for
 * nobody needs all of them (the idea is that of Caffeine's read buffers, https://github.com/ben-manes/caffeine/wiki/Design).
 */
export class HitRecorder {
  readonly #memory: Memory;
  readonly #area: number;
  #hits: number;
  #misses: number;

  constructor(memory: Memory, area: number) {
    this.#memory = memory;
    this.#area = area;
    this.#hits = memory.words[area + AREA.hits] as number;
    this.#misses = memory.words[area + AREA.misses] as number;
  }

  /** A hit on a slot that this thread has pinned. */
  hit(slot: number): void {
    const { words, floats, doubles, layout } = this.#memory;
    const record = layout.recordsAt + slot * RECORD.words;
    const generation = generationOf(words[record + RECORD.state] as number);
    words[this.#area + AREA.hitRing + (this.#hits & (HITS_PER_THREAD - 1))] = (generation << SLOT_BITS) | slot;
    const saved = (this.#area + AREA.savedMs) >> 1;
    doubles[saved] = (doubles[saved] as number) + (floats[record + RECORD.costMs] as number);
    this.#hits = (this.#hits + 1) | 0;
    Atomics.store(words, this.#area + AREA.hits, this.#hits);
  }

  miss(): void {
    this.#misses = (this.#misses + 1) | 0;
    this.#memory.words[this.#area + AREA.misses] = this.#misses;
  }
}

/** Counters of one thread, as the owner adds them up. */
export interface ThreadCounts {
  hits: number;
  misses: number;
  savedMs: number;
  /** Hits that the policy never heard of. */
  unheardHits: number;
}

/** Reads what one thread's recorder writes; for the owner. */
export class HitReader {
  readonly #memory: Memory;
  readonly #area: number;
  // An area begins with zeros, and its thread may have been at work before the owner first looked.
  #hits = 0;
  #misses = 0;
  #savedMs = 0;

  constructor(memory: Memory, area: number) {
    this.#memory = memory;
    this.#area = area;
  }

  /** Adds what came since the last call to `counts`, and calls `touch` for hits on entries that are still there. */
  read(counts: ThreadCounts, touch: (slot: number, generation: number) => void): void {
    const { words, doubles } = this.#memory;
    const hits = Atomics.load(words, this.#area + AREA.hits);
    const fresh = (hits - this.#hits) >>> 0;
    const kept = Math.min(fresh, HITS_PER_THREAD);
    for (let i = kept; i > 0; i--) {
      // The thread may be overwriting this very word: what is read is then a later hit, as good as the one it replaces.
      const hit = words[this.#area + AREA.hitRing + ((hits - i) & (HITS_PER_THREAD - 1))] as number;
      touch(hit & SLOT_MASK, hit >>> SLOT_BITS);
    }
    const misses = words[this.#area + AREA.misses] as number;
    const savedMs = doubles[(this.#area + AREA.savedMs) >> 1] as number;
    counts.hits += fresh;
    counts.unheardHits += fresh - kept;
    counts.misses += (misses - this.#misses) >>> 0;
    counts.savedMs += savedMs - this.#savedMs;
    this.#hits = hits;
    this.#misses = misses;
    this.#savedMs = savedMs;
  }
}
