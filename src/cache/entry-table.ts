import type { CoarseClock } from './coarse-clock.ts';
import type { Holding } from './holding.ts';
import type { EntryFacts } from './partition.ts';
import type { TenantAccount } from './tenants.ts';

const FIRST_CAPACITY = 64;

// Of each slot in `#facts`, side by side, as an entry that comes or goes needs all of them.
const CHARGED_BYTES = 0;
const COST_MS = 1;
const ENTERED_AT = 2;
const FACTS = 3;

/** What only some entries have. */
export interface EntryExtras<V> {
  /** What holds the value of a leased entry. */
  holding: Holding<V> | undefined;
  readonly tags: readonly string[] | undefined;
  readonly account: TenantAccount | undefined;
}

/**
 * What is known of entries, in columns by slot. What every `get` touches is a column of its own and small, so that the
 * processor's caches hold it; nothing is allocated for an entry.
 *
 * ```
 *   slot      0    1    2   ...
 *   rows    [ k0 v0 | k1 v1 |       | ... ]          uses  [ 3 , 0 , 0 , ... ]
 *   #facts  [ bytes cost entered | bytes cost entered | ... ]          extras: mostly undefined
 * ```
 */
export class EntryTable<V> {
  /** Key and value side by side, as a hit needs both; the key index writes the keys. */
  readonly rows: unknown[] = [];
  /** Reads of the entry since it came. */
  uses: Uint32Array = new Uint32Array(FIRST_CAPACITY);
  readonly #extras: (EntryExtras<V> | undefined)[] = [];
  // Where no entry has any, nobody need look.
  #extrasInUse = 0;
  #facts = new Float64Array(FACTS * FIRST_CAPACITY);
  readonly #free: number[] = [];
  readonly #time: CoarseClock;
  #length = 0;

  constructor(time: CoarseClock) {
    this.#time = time;
  }

  /** Slots that hold an entry or held one. */
  get length(): number {
    return this.#length;
  }

  /** A free slot, for an entry with these facts that comes now. */
  take(value: V, { costMs }: EntryFacts, chargedBytes: number): number {
    const slot = this.#free.length > 0 ? (this.#free.pop() as number) : this.#added();
    this.rows[2 * slot + 1] = value;
    const facts = this.#facts;
    facts[FACTS * slot + CHARGED_BYTES] = chargedBytes;
    facts[FACTS * slot + COST_MS] = costMs;
    facts[FACTS * slot + ENTERED_AT] = this.#time.now();
    return slot;
  }

  /** Empties a slot. */
  give(slot: number): void {
    this.rows[2 * slot + 1] = undefined;
    if (this.extrasOf(slot) !== undefined) this.setExtras(slot, undefined);
    this.uses[slot] = 0;
    this.#free.push(slot);
  }

  chargedBytes(slot: number): number {
    return this.#facts[FACTS * slot + CHARGED_BYTES] as number;
  }

  costMs(slot: number): number {
    return this.#facts[FACTS * slot + COST_MS] as number;
  }

  enteredAt(slot: number): number {
    return this.#facts[FACTS * slot + ENTERED_AT] as number;
  }

  usesOf(slot: number): number {
    return this.uses[slot] as number;
  }

  recharge(slot: number, chargedBytes: number): void {
    this.#facts[FACTS * slot + CHARGED_BYTES] = chargedBytes;
  }

  valueOf(slot: number): V {
    return this.rows[2 * slot + 1] as V;
  }

  extrasOf(slot: number): EntryExtras<V> | undefined {
    return this.#extrasInUse === 0 ? undefined : this.#extras[slot];
  }

  setExtras(slot: number, extras: EntryExtras<V> | undefined): void {
    if (this.#extras[slot] !== undefined) this.#extrasInUse--;
    if (extras !== undefined) this.#extrasInUse++;
    this.#extras[slot] = extras;
  }

  isHeld(slot: number): boolean {
    return this.extrasOf(slot)?.holding !== undefined;
  }

  /** Milliseconds that reads of the entries which lie here now made unnecessary. */
  savedMs(): number {
    let sum = 0;
    for (let slot = 0; slot < this.#length; slot++) {
      const uses = this.usesOf(slot);
      if (uses > 0) sum += uses * this.costMs(slot);
    }
    return sum;
  }

  #added(): number {
    const slot = this.#length++;
    this.rows.push(undefined, undefined);
    this.#extras.push(undefined);
    if (slot >= this.uses.length) this.#grow();
    return slot;
  }

  #grow(): void {
    const uses = new Uint32Array(2 * this.uses.length);
    uses.set(this.uses);
    this.uses = uses;
    const facts = new Float64Array(2 * this.#facts.length);
    facts.set(this.#facts);
    this.#facts = facts;
  }
}
