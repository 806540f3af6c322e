import { InferkvError } from '../../src/base/errors.ts';
import type { Random } from '../../src/base/random.ts';
import type {
  CallOptions,
  EpochAuthority,
  GetOptions,
  GrantAuthority,
  PutOptions,
  PutOutcome,
  Store,
  StoreStats,
  StoreTraits,
} from '../../src/stores/store.ts';

/** What is wrong with a store. */
export type Fault =
  /** Every call fails at once. */
  | 'killed'
  /** No call ever settles, whatever its signal says. */
  | 'hung'
  /** Calls take two seconds. */
  | 'slow'
  /** Calls fail with an error of the client's own. */
  | 'refusing'
  /** Reads give random bytes. */
  | 'garbage'
  /** Reads give another name's record. */
  | 'other'
  /** Records end in the middle. */
  | 'cut'
  /** One bit of each record is another. */
  | 'flipped'
  | 'full'
  | 'read-only';

/** All of them. */
export const FAULTS: readonly Fault[] = [
  'killed',
  'hung',
  'slow',
  'refusing',
  'garbage',
  'other',
  'cut',
  'flipped',
  'full',
  'read-only',
];

const SLOW_MS = 2000;

/** Any store, with whatever a test lets go wrong with it; from the seed on it goes wrong in the same way each time. */
export class FaultyStore implements Store {
  readonly name: string;
  readonly traits: StoreTraits;
  readonly epochs: EpochAuthority | undefined;
  readonly grants: GrantAuthority | undefined;
  /** What is wrong now. */
  fault: Fault | undefined;
  /** Calls that something was wrong with. */
  faults = 0;
  readonly #store: Store;
  readonly #random: Random;
  readonly #names: string[] = [];

  constructor(store: Store, random: Random) {
    this.name = store.name;
    this.traits = store.traits;
    this.#store = store;
    this.#random = random;
    const { epochs, grants } = store;
    this.epochs = epochs && {
      read: (scopes, options) => this.#call(() => epochs.read(scopes, options)),
      bump: (scopes, options) => this.#call(() => epochs.bump(scopes, options)),
    };
    this.grants = grants && {
      acquire: (name, ttlMs, options) => this.#call(() => grants.acquire(name, ttlMs, options)),
      renew: (name, token, ttlMs, options) => this.#call(() => grants.renew(name, token, ttlMs, options)),
      release: (name, token, options) => this.#call(() => grants.release(name, token, options)),
    };
  }

  get(name: string, options?: GetOptions): Promise<Uint8Array | undefined> {
    return this.#call(async () => this.#spoilt(await this.#store.get(this.#nameToRead(name), options)));
  }

  getMany(names: readonly string[], options?: CallOptions): Promise<readonly (Uint8Array | undefined)[]> {
    return this.#call(async () => {
      const records = await this.#store.getMany(
        names.map((name) => this.#nameToRead(name)),
        options,
      );
      return records.map((record) => this.#spoilt(record));
    });
  }

  put(name: string, parts: readonly Uint8Array[], options?: PutOptions): Promise<PutOutcome> {
    return this.#call(async () => {
      if (this.fault === 'full') return 'full';
      if (this.fault === 'read-only') throw failure('it can only be read');
      if (this.#names.length < 64) this.#names.push(name);
      return this.#store.put(name, parts, options);
    });
  }

  delete(name: string, options?: CallOptions): Promise<boolean> {
    return this.#call(async () => {
      if (this.fault === 'read-only') throw failure('it can only be read');
      return this.#store.delete(name, options);
    });
  }

  stats(): StoreStats {
    return this.#store.stats();
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #call<T>(work: () => Promise<T>): Promise<T> {
    if (this.fault !== undefined) this.faults++;
    if (this.fault === 'killed') throw failure('it is gone');
    if (this.fault === 'refusing') throw new TypeError('the client refuses');
    if (this.fault === 'hung') return new Promise<never>(() => undefined);
    if (this.fault === 'slow') await new Promise((resolve) => void setTimeout(resolve, SLOW_MS).unref());
    return work();
  }

  #nameToRead(name: string): string {
    if (this.fault !== 'other' || this.#names.length === 0) return name;
    return this.#names[this.#random.below(this.#names.length)] ?? name;
  }

  #spoilt(record: Uint8Array | undefined): Uint8Array | undefined {
    if (this.fault === 'garbage') return Uint8Array.from({ length: 500 }, () => this.#random.below(256));
    if (record === undefined || record.length === 0) return record;
    if (this.fault === 'cut') return record.subarray(0, this.#random.below(record.length));
    if (this.fault !== 'flipped') return record;
    const at = this.#random.below(record.length);
    const flipped = Uint8Array.from(record);
    flipped[at] = (flipped[at] as number) ^ (1 << this.#random.below(8));
    return flipped;
  }
}

function failure(what: string): InferkvError {
  return new InferkvError('ERR_INFERKV_STORE_FAILED', `The store does not answer: ${what}.`);
}
