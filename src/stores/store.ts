/** What a record is called in a store: 1 to 200 printable ASCII characters without spaces, as every store can have them. */
export type RecordName = string;

/** How one call is done. */
export interface CallOptions {
  /** Ends the call: its promise is rejected soon, whatever the other side does. What was asked for may still happen. */
  readonly signal?: AbortSignal | undefined;
}

/** How a record is read. */
export interface GetOptions extends CallOptions {
  /** Memory to read into, of exactly that many bytes; fresh memory if left out. A store that gets memory of its client's own anyway may do without. */
  readonly allocate?: ((lengthBytes: number) => Uint8Array) | undefined;
}

/** How a record is written. */
export interface PutOptions extends CallOptions {
  /** Milliseconds after which the store may forget it; it stays until there is need of room if left out. */
  readonly ttlMs?: number | undefined;
  /**
   * The fencing token of the writer's lease: a record that carries a greater one is not overwritten. 0, for no lease, if left
   * out: then whatever lies there is overwritten.
   */
  readonly token?: number | undefined;
}

/**
 * What became of a write. `full`: no room for it, or it is not let in; `too-large`: for this store; `superseded`: what lies
 * there has a greater token.
 */
export type PutOutcome = 'stored' | 'full' | 'too-large' | 'superseded';

/** What a store is like; for those who choose one, and for whoever stacks them. */
export interface StoreTraits {
  /** The longest record, in bytes. */
  readonly maxRecordBytes: number;
  /** Whether records outlive this process. */
  readonly persistent: boolean;
  /** Which processes share it: `process` this one alone, `machine` those of one machine, `network` all that reach it. */
  readonly reach: 'process' | 'machine' | 'network';
}

/** What a store knows of itself, without asking anybody; what it does not know is left out. */
export interface StoreStats {
  readonly records?: number;
  readonly usedBytes?: number;
  readonly budgetBytes?: number;
  /** Records that left to make room. */
  readonly evictions?: number;
  /** Records found when it was opened. */
  readonly restored?: number;
}

/**
 * One back end: records of bytes by name. It does not know what they mean; whether they are whole, and whose, is checked by
 * whoever reads them (`record.ts`).
 *
 * Contract:
 * - What was `stored` is read back byte for byte until it is overwritten, deleted, forgotten after `ttlMs`, or makes room. A
 *   record is there as a whole or not at all: never in parts, never two writes mixed.
 * - A call that cannot be answered is rejected with `ERR_INFERKV_STORE_FAILED`, and the store goes on: the next call tries
 *   anew. It never waits longer than its signal allows, throws nothing synchronously, and emits no unhandled error.
 * - The bytes given to `put` are not changed, and not read after its promise has settled. The bytes that `get` gives belong
 *   to the caller.
 * - Making one does not wait for its server; the first call connects.
 *
 * Caller: names are legal, signals are passed on. Test an implementation with the suite `inferkv/store-contract`.
 */
export interface Store extends AsyncDisposable {
  /** A name for people and metrics: `disk`, `redis`. */
  readonly name: string;
  readonly traits: StoreTraits;
  /** The record, or `undefined` where there is none. */
  get(name: RecordName, options?: GetOptions): Promise<Uint8Array | undefined>;
  /** As many records as names, in their order, in as few round trips as the store can. */
  getMany(names: readonly RecordName[], options?: CallOptions): Promise<readonly (Uint8Array | undefined)[]>;
  /** Writes a record, given in parts that are one after the other; when it settles, the record is as durable as the store makes it. */
  put(name: RecordName, parts: readonly Uint8Array[], options?: PutOptions): Promise<PutOutcome>;
  /** Takes a record out; `false` if there was none. */
  delete(name: RecordName, options?: CallOptions): Promise<boolean>;
  /** Numbers by which what was invalidated is told from what is good, where the store can keep them. */
  readonly epochs?: EpochAuthority | undefined;
  /** The right to be the one that computes, where the store can grant it. */
  readonly grants?: GrantAuthority | undefined;
  stats(): StoreStats;
  /** Lets what is under way end, then lets go of everything; later calls are rejected with `ERR_INFERKV_CLOSED`. */
  close(): Promise<void>;
}

/** A number for each scope (a tag: a model, a tenant) that grows with every invalidation. A record is good while the numbers of its tags are those it was made under. */
export interface EpochAuthority {
  /**
   * The present numbers, safe integers above zero. A scope that was never bumped has the number of its authority, which is
   * made when that first starts: an authority that has lost its memory gives numbers that were never given before.
   */
  read(scopes: readonly string[], options?: CallOptions): Promise<readonly number[]>;
  /** Raises each by at least one, atomically, and gives the new ones; who is subscribed is told. */
  bump(scopes: readonly string[], options?: CallOptions): Promise<readonly number[]>;
  /** Tells of every bump by anybody, where the store can; ends when called. */
  subscribe?(listener: EpochListener): () => Promise<void>;
}

/** Who is told of bumps. Calls come in the order in which the authority made the changes. */
export interface EpochListener {
  bumped(scope: string, epoch: number): void;
  /** Everything up to now has been told. `isWhole` is false where something may have been missed before: numbers known must be read again. */
  inStep(isWhole: boolean): void;
  /** From now on bumps may be missed, until `inStep`. */
  lost(): void;
}

/** Grants the right to compute what several would compute at once, to one of them at a time. A right lasts until its time is over, and can be renewed before. */
export interface GrantAuthority {
  /** A fencing token, greater than any granted before for that name; `undefined` while another has the right. */
  acquire(name: string, ttlMs: number, options?: CallOptions): Promise<number | undefined>;
  /** `false` if it was lost meanwhile. */
  renew(name: string, token: number, ttlMs: number, options?: CallOptions): Promise<boolean>;
  /** Gives it back; does nothing if it was lost. */
  release(name: string, token: number, options?: CallOptions): Promise<void>;
}

const LEGAL_NAME = /^[\x21-\x7e]{1,200}$/;

/** Whether every store can have a record of that name. */
export function isRecordName(name: string): boolean {
  return LEGAL_NAME.test(name);
}

/** Bytes of a record in parts. */
export function lengthOfParts(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}
