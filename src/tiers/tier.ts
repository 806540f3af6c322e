import type { WallClock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import { openRecord, sealRecord, type CacheRecord, type RecordFault, type SigningKey } from '../stores/record.ts';
import type {
  GetOptions,
  PutOptions,
  PutOutcome,
  RecordName,
  Store,
  StoreStats,
  StoreTraits,
} from '../stores/store.ts';

/** A level of the stack below memory, as it is seen by those who ask for a value. */
export type TierPlace = 'disk' | 'remote';

/** What a tier is made of. */
export interface TierOptions {
  /** As configured. */
  readonly name: string;
  /** Guarded, so that no call of it can hang or throw anything but coded errors. */
  readonly store: Store;
  /** Keys that records are signed and believed by, the first for signing; `undefined` where nobody else can write. */
  readonly signers?: readonly SigningKey[] | undefined;
  readonly wallClock: WallClock;
}

/** What is asked of a record. */
export interface Wanted {
  readonly name: RecordName;
  readonly partition: string;
  readonly digest: Uint8Array;
  readonly tenant?: string | undefined;
}

/** What a tier counts. */
export interface TierStats extends StoreStats {
  readonly name: string;
  readonly hits: number;
  readonly misses: number;
  /** Reads and writes that the store could not do. */
  readonly failures: number;
  readonly written: number;
  readonly refusedBy: Readonly<Record<Exclude<PutOutcome, 'stored'>, number>>;
  /** Records that were there and not believed, by why; each was a miss. */
  readonly faults: Readonly<Partial<Record<RecordFault, number>>>;
  readonly readBytes: number;
  readonly writtenBytes: number;
  readonly lastFailure: string | undefined;
}

// It may be good for others: whose clock is right, who knows newer keys or a newer format, cannot be known here.
const LEFT_ALONE: ReadonlySet<RecordFault> = new Set(['clock', 'signer', 'version']);

/** Records in a store: sealed on the way down, checked on the way up. What is not believed is a miss, is counted, and leaves. */
export class Tier {
  readonly name: string;
  readonly place: TierPlace;
  readonly store: Store;
  readonly #signers: readonly SigningKey[] | undefined;
  readonly #wallClock: WallClock;
  readonly #faults: Partial<Record<RecordFault, number>> = {};
  readonly #refusedBy = { full: 0, 'too-large': 0, superseded: 0 };
  readonly #counts = { hits: 0, misses: 0, failures: 0, written: 0, readBytes: 0, writtenBytes: 0 };
  #lastFailure: string | undefined;

  constructor({ name, store, signers, wallClock }: TierOptions) {
    this.name = name;
    this.store = store;
    this.place = store.traits.reach === 'network' ? 'remote' : 'disk';
    this.#signers = signers;
    this.#wallClock = wallClock;
  }

  get traits(): StoreTraits {
    return this.store.traits;
  }

  /** The key that records are to be sealed with for this tier. */
  get signer(): SigningKey | undefined {
    return this.#signers?.[0];
  }

  /** The record; `undefined` if there is none, it is not believed, or the store fails. Never throws. */
  async get(wanted: Wanted, options?: GetOptions): Promise<CacheRecord | undefined> {
    try {
      const bytes = await this.store.get(wanted.name, options);
      return this.open(bytes, wanted);
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  /** As `get`, for many in one call. */
  async getMany(wanted: readonly Wanted[], options?: GetOptions): Promise<readonly (CacheRecord | undefined)[]> {
    try {
      const found = await this.store.getMany(
        wanted.map(({ name }) => name),
        options,
      );
      return wanted.map((each, at) => this.open(found[at], each));
    } catch (error) {
      this.#fail(error);
      return wanted.map(() => undefined);
    }
  }

  /** The record in bytes that the store gave, or had on its way. */
  open(bytes: Uint8Array | undefined, wanted: Wanted): CacheRecord | undefined {
    if (bytes === undefined) {
      this.#counts.misses++;
      return undefined;
    }
    const { partition, digest, tenant } = wanted;
    const nowMs = this.#wallClock();
    const opened = openRecord(aligned(bytes), { partition, digest, tenant, nowMs, signers: this.#signers });
    if (typeof opened === 'string') {
      this.doubt(wanted.name, opened);
      return undefined;
    }
    this.#counts.hits++;
    this.#counts.readBytes += bytes.length;
    return opened;
  }

  /** Counts a record as not believed after all, and takes it out. */
  doubt(name: RecordName, fault: RecordFault): void {
    this.#counts.misses++;
    this.#faults[fault] = (this.#faults[fault] ?? 0) + 1;
    if (!LEFT_ALONE.has(fault)) void this.delete(name);
  }

  /** The same, for a record that `get` gave: its hit is a miss. */
  doubtHit(name: RecordName, fault: RecordFault): void {
    this.#counts.hits--;
    this.doubt(name, fault);
  }

  /** The record in parts, as it is to be written here. */
  seal(record: CacheRecord): readonly [Uint8Array, Uint8Array] {
    return sealRecord(record, this.signer);
  }

  /** Writes a sealed record; `undefined` if the store failed. Never throws. */
  async put(name: RecordName, parts: readonly Uint8Array[], options?: PutOptions): Promise<PutOutcome | undefined> {
    try {
      const outcome = await this.store.put(name, parts, options);
      if (outcome === 'stored') {
        this.#counts.written++;
        this.#counts.writtenBytes += parts.reduce((sum, { length }) => sum + length, 0);
      } else this.#refusedBy[outcome]++;
      return outcome;
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  /** Takes a record out; `false` if that is not certain. Never throws. */
  async delete(name: RecordName, signal?: AbortSignal): Promise<boolean> {
    try {
      await this.store.delete(name, { signal });
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  stats(): TierStats {
    return {
      name: this.name,
      ...this.store.stats(),
      ...this.#counts,
      refusedBy: { ...this.#refusedBy },
      faults: { ...this.#faults },
      lastFailure: this.#lastFailure,
    };
  }

  #fail(error: unknown): void {
    this.#counts.failures++;
    this.#lastFailure = messageOf(error);
  }
}

/** The same bytes at a multiple of 64, as views of elements and vector instructions want them; clients hand out parts of larger buffers. */
function aligned(bytes: Uint8Array): Uint8Array {
  return bytes.byteOffset % 64 === 0 ? bytes : Uint8Array.from(bytes);
}
