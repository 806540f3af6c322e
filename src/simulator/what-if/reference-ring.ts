/** What a record of the ring says, besides whose use it is. */
export const NOTED = 1;
/** A block of a chain. */
export const IN_CHAIN = 2;
/** The last of its request. */
export const ENDS = 4;

/** What the other side is to do once it has read what is there. */
export const ASKED = 1;
export const RESET = 2;
export const CLOSED = 4;

/** Places for hot keys, which the reader finds and the writer has to know. */
export const HOT_PLACES = 256;

// Control words. The writer owns HEAD and what is noted, the reader TAIL, LAST and the hot keys.
const HEAD = 0;
const TAIL = 1;
/** Raised whenever the reader should look; it sleeps on this word. */
const WAKE = 2;
const COMMANDS = 3;
/** The highest mark in the sample; -1 where nothing is. */
const LAST = 4;
/** 1 while the reader sleeps until it is woken, and does not look by itself. */
const ASLEEP = 5;
const WORDS = 8;

/** Records that become visible at one time, as a store that others see costs as much as several that they need not. */
const PIECE = 256;
const RECORDS = 1 << 14;
const FIELDS = 3;
/** How long a reader that had something to do waits before it looks again; to wake it would cost the writer more. */
const NAP_MS = 5;
const MOST_MARK = 2 ** 31 - 1;
/** Low bits of an id, beside the 32 of its hash. */
const LOW_BITS = 21;

/** What of an id its keyed hash is, and the id that a limit of hashes stands for. */
export const HASH_UNIT: number = 2 ** LOW_BITS;

/** Who gets the records of a ring; in its order. */
export type RecordReader = (id: number, sizeBytes: number, costMs: number, flags: number) => void;

/**
 * Uses on their way from the thread that serves to whoever replays them: one writer, one reader, bounded, in shared memory.
 *
 * ```
 *   words    | HEAD | TAIL | WAKE | COMMANDS | LAST | ... |        hot   | hash of a hot key at its low bits, or 0 | x 256
 *   fields   | id size cost | id size cost | ...                   flags | of each record
 * ```
 *
 * What does not fit is dropped, as the thread that serves waits for nobody, and counted. Whole requests become visible, 256
 * records at one time. Takes 410 KB.
 */
export class ReferenceRing {
  readonly memory: SharedArrayBuffer;
  /** Hashes of hot keys, at the places their low bits name. */
  readonly hot: Int32Array;
  readonly #words: Int32Array;
  readonly #fields: Float64Array;
  readonly #flags: Uint8Array;
  /** The writer's own: the next record, where the request that is being written begins, what is visible, and the reader's place as last seen. */
  #next = 0;
  #begun = 0;
  #visible = 0;
  #tail = 0;
  #dropped = 0;

  constructor(memory?: SharedArrayBuffer) {
    const bytes = 4 * (WORDS + HOT_PLACES) + RECORDS * (8 * FIELDS + 1);
    this.memory = memory ?? new SharedArrayBuffer(bytes);
    this.#words = new Int32Array(this.memory, 0, WORDS);
    this.hot = new Int32Array(this.memory, 4 * WORDS, HOT_PLACES);
    this.#fields = new Float64Array(this.memory, 4 * (WORDS + HOT_PLACES), FIELDS * RECORDS);
    this.#flags = new Uint8Array(this.memory, 4 * (WORDS + HOT_PLACES) + 8 * FIELDS * RECORDS, RECORDS);
    if (memory !== undefined) return;
    this.#words[LAST] = MOST_MARK;
    this.#words[ASLEEP] = 1;
  }

  /** The highest mark that is in the sample. */
  get last(): number {
    return this.#words[LAST] as number;
  }

  set last(mark: number) {
    this.#words[LAST] = mark;
  }

  /** Records that did not fit. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Puts a record behind those that are there; visible some time after `end`. `false` where there is no room. */
  add(hash: number, low: number, sizeBytes: number, costMs: number, flags: number): boolean {
    if (((this.#next - this.#tail) | 0) >= RECORDS) {
      this.#tail = Atomics.load(this.#words, TAIL);
      if (((this.#next - this.#tail) | 0) >= RECORDS) {
        this.#dropped++;
        return false;
      }
    }
    const at = this.#next & (RECORDS - 1);
    this.#fields[FIELDS * at] = (hash >>> 0) * HASH_UNIT + (low & (HASH_UNIT - 1));
    this.#fields[FIELDS * at + 1] = sizeBytes;
    this.#fields[FIELDS * at + 2] = costMs;
    this.#flags[at] = flags;
    this.#next = (this.#next + 1) | 0;
    return true;
  }

  /** Ends the request whose records were just added; `true` if it is time to call the reader. */
  end(): boolean {
    if (this.#next === this.#begun) return false;
    const at = (this.#next - 1) & (RECORDS - 1);
    this.#flags[at] = (this.#flags[at] as number) | ENDS;
    this.#begun = this.#next;
    if (((this.#next - this.#visible) | 0) < PIECE) return false;
    this.publish();
    return Atomics.load(this.#words, ASLEEP) === 1;
  }

  /** Takes back what was added since the last `end`: a request is there as a whole or not at all. */
  takeBack(): void {
    this.#dropped += (this.#next - this.#begun) | 0;
    this.#next = this.#begun;
  }

  /** Makes all that was added visible. */
  publish(): void {
    this.#visible = this.#begun;
    Atomics.store(this.#words, HEAD, this.#visible);
  }

  /** Has the reader look, and do something besides. */
  wake(command = 0): void {
    if (command !== 0) Atomics.or(this.#words, COMMANDS, command);
    Atomics.add(this.#words, WAKE, 1);
    Atomics.notify(this.#words, WAKE);
  }

  /** The reader's: hands on what is visible; gives how many records that were. */
  drain(read: RecordReader): number {
    const head = Atomics.load(this.#words, HEAD);
    const first = this.#words[TAIL] as number;
    for (let next = first; next !== head; next = (next + 1) | 0) {
      const at = next & (RECORDS - 1);
      const from = FIELDS * at;
      read(
        this.#fields[from] as number,
        this.#fields[from + 1] as number,
        this.#fields[from + 2] as number,
        this.#flags[at] as number,
      );
      // Room is given back in steps, so that a writer that is ahead need not wait for all of it.
      if ((next & (PIECE - 1)) === 0) Atomics.store(this.#words, TAIL, next);
    }
    Atomics.store(this.#words, TAIL, head);
    return (head - first) | 0;
  }

  /** The reader's: what it was told to do since it last asked. */
  commands(): number {
    return Atomics.exchange(this.#words, COMMANDS, 0);
  }

  /** The reader's: how often it was woken, to give to `sleep`. Never for the main thread. */
  wakings(): number {
    return Atomics.load(this.#words, WAKE);
  }

  /** The reader's: sleeps until it is woken once more than that, or for a moment if it was `busy`. */
  sleep(wakings: number, busy: boolean): void {
    if (busy) {
      Atomics.wait(this.#words, WAKE, wakings, NAP_MS);
      return;
    }
    Atomics.store(this.#words, ASLEEP, 1);
    // What came between the last look and this is seen now, or its writer sees that the reader is asleep.
    if (Atomics.load(this.#words, HEAD) === this.#words[TAIL]) Atomics.wait(this.#words, WAKE, wakings);
    Atomics.store(this.#words, ASLEEP, 0);
  }
}
