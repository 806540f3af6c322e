import type { Key } from './partition.ts';

const FIRST_CAPACITY = 64;
const NOBODY = -1;

// Called by this name and not as a method: once any package of the process has a class that extends String (ioredis has
// one), V8 compiles the method's call eight times slower.
// oxlint-disable-next-line typescript/unbound-method
const { charCodeAt } = String.prototype;

// What goes into a hash: the first characters of a key that is longer than LONG, as digests are, and otherwise the last, as
// numbers are at the end. Each costs as much as the rest of a lookup's arithmetic, and the end of a long key is in another
// line of the processor's caches.
const SAMPLED = 6;
const LONG = 40;
// The golden ratio's multiplier, which carries what differs in a few bits to all above them (Knuth, TAOCP 3, 6.4).
const SPREAD = 0x9e3779b1;
// Characters, and somewhat more, that go into a fingerprint: that of a digest has its full 32 bits.
const FINGERPRINT_SAMPLES = 12;
// Among a million digests one in twenty meets a stranger of its own hash; this many of them are no accident.
const MAX_STRANGERS = 8;
// Half full, a table of a million keys has runs of about a hundred; keys that gather in one place though their hashes differ
// are no accident either.
const MAX_PROBES = 512;

/**
 * Finds the slot of a key: open addressing with linear probing over one typed array, at most half full.
 *
 * ```
 *   #table   [hash, slot + 1, hash, slot + 1, ...]      0 for an empty place; a place is hash & mask, or one soon after
 *   #rows    [key of slot 0, its value, key of slot 1, its value, ...]      the table's; #hashes by slot
 * ```
 *
 * Faster than a `Map` where entries come and go (`npm run bench -- core`): a removal knows its hash and does not
 * touch the key, which is seldom in the processor's caches by then, and a growing table leaves no garbage. Hashes are made of six
 * characters, which tells digests apart. Keys that differ elsewhere, or are made to gather, are found out when too many strangers share one
 * hash or one part of the table; from then on a `Map` does the work, whose hashes are seeded, so nobody can make it slow on purpose.
 *
 * Takes 4 to 8 times 4 bytes an entry for the table, 12 a slot for key and hash.
 */
export class KeyIndex {
  #table = new Int32Array(2 * FIRST_CAPACITY);
  #mask = FIRST_CAPACITY - 1;
  #hashes = new Int32Array(FIRST_CAPACITY);
  readonly #rows: unknown[];
  #size = 0;
  #map: Map<Key, number> | undefined;
  // What was looked for in vain is mostly put in next; forgotten as soon as anything is put in.
  #missedKey: Key | undefined;
  #missedHash = 0;

  /** @param rows keys and values side by side, of which the keys are this index's to write */
  constructor(rows: unknown[]) {
    this.#rows = rows;
  }

  /** Keys that are in. */
  get size(): number {
    return this.#size;
  }

  /** The slot of a key, or -1. */
  find(key: Key): number {
    if (this.#map !== undefined) return this.#map.get(key) ?? NOBODY;
    const hash = hashOf(key);
    const table = this.#table;
    const mask = this.#mask;
    for (let place = hash & mask; ; place = (place + 1) & mask) {
      const slot = (table[2 * place + 1] as number) - 1;
      if (slot === NOBODY) break;
      if (table[2 * place] === hash && this.#rows[2 * slot] === key) return slot;
    }
    this.#missedKey = key;
    this.#missedHash = hash;
    return NOBODY;
  }

  /** Whether the last key that was looked for in vain is this one, and so is not in. */
  hasJustMissed(key: Key): boolean {
    return this.#missedKey === key;
  }

  /** Puts a key in that is not in, under a slot that holds no other. */
  add(key: Key, slot: number): void {
    const hash = this.#missedKey === key ? this.#missedHash : hashOf(key);
    this.#missedKey = undefined;
    if (slot >= this.#hashes.length) this.#growHashes(slot + 1);
    if (2 * (this.#size + 1) > this.#mask) this.#growTable();
    this.#rows[2 * slot] = key;
    this.#hashes[slot] = hash;
    this.#size++;
    if (this.#map !== undefined) this.#map.set(key, slot);
    else if (this.#put(hash, slot)) this.#turnToMap();
  }

  /** Takes the key of a slot out. */
  remove(slot: number): void {
    this.#size--;
    if (this.#map === undefined) this.#vacate(slot);
    else this.#map.delete(this.keyOf(slot));
    this.#rows[2 * slot] = undefined;
  }

  /** The key of a slot that holds one. */
  keyOf(slot: number): Key {
    return this.#rows[2 * slot] as Key;
  }

  /** 32 bits of the key of a slot, at hand where it does not take a `Map`. */
  hashAt(slot: number): number {
    return this.#map === undefined ? (this.#hashes[slot] as number) : identityOf(this.keyOf(slot)) | 0;
  }

  /** The same of a key, whether it is in or not. */
  hashOfKey(key: Key): number {
    if (this.#map !== undefined) return identityOf(key) | 0;
    return this.#missedKey === key ? this.#missedHash : hashOf(key);
  }

  /** The keys that are in, by slot. */
  *keys(): Generator<Key, undefined> {
    for (const [, key] of this.#entries()) yield key;
  }

  *#entries(): Generator<readonly [slot: number, key: Key], undefined> {
    for (let slot = 0; 2 * slot < this.#rows.length; slot++) {
      const key = this.#rows[2 * slot] as Key | undefined;
      if (key !== undefined) yield [slot, key];
    }
  }

  /** Puts a hash into the first free place; `true` if it met more on the way there than chance brings together. */
  #put(hash: number, slot: number): boolean {
    const table = this.#table;
    const mask = this.#mask;
    const home = hash & mask;
    let strangers = 0;
    let place = home;
    while (table[2 * place + 1] !== 0) {
      if (table[2 * place] === hash) strangers++;
      place = (place + 1) & mask;
    }
    table[2 * place] = hash;
    table[2 * place + 1] = slot + 1;
    return strangers > MAX_STRANGERS || ((place - home) & mask) > MAX_PROBES;
  }

  /** Empties the place of a slot, and moves those after it up that would not be found any more. */
  #vacate(slot: number): void {
    const table = this.#table;
    const mask = this.#mask;
    let hole = (this.#hashes[slot] as number) & mask;
    while (table[2 * hole + 1] !== slot + 1) hole = (hole + 1) & mask;
    for (let place = (hole + 1) & mask; table[2 * place + 1] !== 0; place = (place + 1) & mask) {
      const home = (table[2 * place] as number) & mask;
      if (((place - home) & mask) < ((place - hole) & mask)) continue;
      table[2 * hole] = table[2 * place] as number;
      table[2 * hole + 1] = table[2 * place + 1] as number;
      hole = place;
    }
    table[2 * hole + 1] = 0;
  }

  #growHashes(needed: number): void {
    const hashes = new Int32Array(Math.max(needed, 2 * this.#hashes.length));
    hashes.set(this.#hashes);
    this.#hashes = hashes;
  }

  #growTable(): void {
    const old = this.#table;
    this.#mask = 2 * this.#mask + 1;
    this.#table = new Int32Array(2 * (this.#mask + 1));
    for (let at = 0; at < old.length; at += 2) {
      const slot = (old[at + 1] as number) - 1;
      if (slot !== NOBODY) this.#put(old[at] as number, slot);
    }
  }

  #turnToMap(): void {
    const map = new Map<Key, number>();
    for (const [slot, key] of this.#entries()) map.set(key, slot);
    this.#map = map;
    this.#table = new Int32Array(0);
    this.#mask = Number.MAX_SAFE_INTEGER;
  }
}

/** A 32-bit fingerprint of a key, by which a policy may know it again after it left. */
export function identityOf(key: Key): number {
  const { length } = key;
  const step = length > FINGERPRINT_SAMPLES ? Math.floor(length / FINGERPRINT_SAMPLES) : 1;
  return fnv(key, step) >>> 0;
}

function hashOf(key: Key): number {
  const { length } = key;
  if (length < SAMPLED) return fnv(key, 1);
  const at = length > LONG ? 0 : length - SAMPLED;
  // Five bits tell the digits of a digest apart.
  const hash = Math.imul(
    charCodeAt.call(key, at) ^
      (charCodeAt.call(key, at + 1) << 5) ^
      (charCodeAt.call(key, at + 2) << 10) ^
      (charCodeAt.call(key, at + 3) << 15) ^
      (charCodeAt.call(key, at + 4) << 20) ^
      (charCodeAt.call(key, at + 5) << 25),
    SPREAD,
  );
  return hash ^ (hash >>> 16);
}

/** FNV-1a over every `step`-th character. */
function fnv(key: Key, step: number): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at += step) hash = Math.imul(hash ^ charCodeAt.call(key, at), 0x01000193);
  return mixed(hash);
}

/** Spreads what tells hashes apart over all of their bits (Chris Wellons, "Prospecting for hash functions", 2018, public domain). */
function mixed(hash: number): number {
  let spread = hash ^ (hash >>> 16);
  spread = Math.imul(spread, 0x7feb352d);
  spread ^= spread >>> 15;
  spread = Math.imul(spread, 0x846ca68b);
  return spread ^ (spread >>> 16);
}
