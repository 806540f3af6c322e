import type { CoarseClock } from './coarse-clock.ts';
import {
  DEPARTURE_REASONS,
  REFUSAL_REASONS,
  type DepartedEntry,
  type DepartureReason,
  type RefusalReason,
  type RefusedEntry,
} from './explanation.ts';
import type { Key } from './partition.ts';

/** Departures and refusals that a partition remembers; the oldest are forgotten first. */
export const REMEMBERED_DEPARTURES = 4096;

const FIRST_CAPACITY = 64;

/** What is noted of an entry when it leaves. */
export interface DepartingEntries {
  chargedBytes(slot: number): number;
  costMs(slot: number): number;
  enteredAt(slot: number): number;
  usesOf(slot: number): number;
}

// Of each place, side by side: one line of the processor's caches.
const AT = 0;
const CODE = 1;
const CHARGED_BYTES = 2;
const COST_MS = 3;
const USES = 4;
const ENTERED_AT = 5;
const LIMIT_BYTES = 6;
const FIELDS = 8;

const FIRST_REFUSAL = DEPARTURE_REASONS.length;

/** Departure reasons as numbers. */
export const DEPARTED: Readonly<Record<DepartureReason, number>> = codesOf<DepartureReason>(DEPARTURE_REASONS, 0);

/** Refusal reasons as numbers. */
export const REFUSED: Readonly<Record<RefusalReason, number>> = codesOf<RefusalReason>(REFUSAL_REASONS, FIRST_REFUSAL);

/**
 * Remembers what left and what was refused, and why, in a ring of fixed size: noting one down is eight numbers and a reference
 * into memory that is used again. At most 4,096, which take 80 bytes each and their keys (0.7 MB with digests), beside the
 * budget; memory grows with the first departures. Who asks for one pays for the search.
 */
export class Departures {
  #fields = new Float64Array(FIELDS * FIRST_CAPACITY);
  #capacity = FIRST_CAPACITY;
  readonly #keys: Key[] = [];
  /** Tags, at the places of what was invalidated. */
  readonly #tags: string[] = [];
  readonly #counts = new Float64Array(FIRST_REFUSAL + REFUSAL_REASONS.length);
  readonly #time: CoarseClock;
  readonly #table: DepartingEntries;
  #next = 0;

  // What is noted is read here: numbers with fractions that go through calls would be allocated.
  constructor(time: CoarseClock, table: DepartingEntries) {
    this.#time = time;
    this.#table = table;
  }

  /** Departures and refusals that are remembered now. */
  get length(): number {
    return this.#keys.length;
  }

  /** Notes that the entry in `slot` leaves; `neededBytes` is what room was made for. */
  depart(key: Key, code: number, slot: number, tag: string | undefined, neededBytes: number): void {
    this.#count(code);
    // Its key lies here again, with a newer value.
    if (code === DEPARTED.replaced) return;
    const base = this.#place(key);
    if (tag !== undefined) this.#tags[base / FIELDS] = tag;
    const fields = this.#fields;
    const entries = this.#table;
    fields[base + AT] = this.#time.now();
    fields[base + CODE] = code;
    fields[base + CHARGED_BYTES] = entries.chargedBytes(slot);
    fields[base + COST_MS] = entries.costMs(slot);
    fields[base + USES] = entries.usesOf(slot);
    fields[base + ENTERED_AT] = entries.enteredAt(slot);
    fields[base + LIMIT_BYTES] = neededBytes;
  }

  /** Notes a refusal. */
  refuse(key: Key, code: number, chargedBytes: number, costMs: number, limitBytes: number): void {
    this.#count(code);
    const base = this.#place(key);
    const fields = this.#fields;
    const now = this.#time.now();
    fields[base + AT] = now;
    fields[base + CODE] = code;
    fields[base + CHARGED_BYTES] = chargedBytes;
    fields[base + COST_MS] = costMs;
    fields[base + USES] = 0;
    fields[base + ENTERED_AT] = now;
    fields[base + LIMIT_BYTES] = limitBytes;
  }

  /** What was noted last of a key; `policy` is the name of the one that evicts here. */
  find(key: Key, policy: string): DepartedEntry | RefusedEntry | undefined {
    const { length } = this.#keys;
    for (let back = 1; back <= length; back++) {
      const at = (this.#next - back + length) % length;
      if (this.#keys[at] === key) return this.#describe(at, key, policy);
    }
    return undefined;
  }

  /** Departures by reason since the partition was made. */
  departures(): Readonly<Record<DepartureReason, number>> {
    return this.#countsOf(DEPARTED);
  }

  /** Refusals by reason since the partition was made. */
  refusals(): Readonly<Record<RefusalReason, number>> {
    return this.#countsOf(REFUSED);
  }

  #countsOf<Reason extends string>(codes: Readonly<Record<Reason, number>>): Readonly<Record<Reason, number>> {
    const reasons = Object.keys(codes) as Reason[];
    const counts = reasons.map((reason) => [reason, this.#counts[codes[reason]]]);
    return Object.fromEntries(counts) as Record<Reason, number>;
  }

  #count(code: number): void {
    this.#counts[code] = (this.#counts[code] as number) + 1;
  }

  #place(key: Key): number {
    const at = this.#next;
    if (at === this.#capacity) this.#grow();
    this.#keys[at] = key;
    this.#next = at + 1 === REMEMBERED_DEPARTURES ? 0 : at + 1;
    return at * FIELDS;
  }

  #grow(): void {
    this.#capacity *= 2;
    const fields = new Float64Array(FIELDS * this.#capacity);
    fields.set(this.#fields);
    this.#fields = fields;
  }

  #describe(at: number, key: Key, policy: string): DepartedEntry | RefusedEntry {
    const field = (which: number): number => this.#fields[at * FIELDS + which] as number;
    const code = field(CODE);
    const agoMs = Math.max(0, this.#time.now() - field(AT));
    const common = { key, agoMs, chargedBytes: field(CHARGED_BYTES), costMs: field(COST_MS) };
    if (code >= FIRST_REFUSAL) {
      const reason = REFUSAL_REASONS[code - FIRST_REFUSAL] as RefusalReason;
      return { state: 'refused', reason, ...common, limitBytes: field(LIMIT_BYTES) };
    }
    const reason = DEPARTURE_REASONS[code] as DepartureReason;
    const isInvalidated = reason === 'invalidated';
    const isEvicted = reason === 'evicted' || reason === 'quota';
    return {
      state: 'departed',
      reason,
      ...common,
      policy: isEvicted ? policy : undefined,
      tag: isInvalidated ? this.#tags[at] : undefined,
      neededBytes: field(LIMIT_BYTES),
      livedMs: Math.max(0, field(AT) - field(ENTERED_AT)),
      uses: field(USES),
      savedMs: field(USES) * field(COST_MS),
    };
  }
}

function codesOf<Reason extends string>(reasons: readonly Reason[], first: number): Readonly<Record<Reason, number>> {
  return Object.fromEntries(reasons.map((reason, at) => [reason, first + at])) as Record<Reason, number>;
}
