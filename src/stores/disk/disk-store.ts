import { orAborted, throwIfAborted } from '../../base/cancellation.ts';
import { systemClock, systemWallClock, type Clock, type WallClock } from '../../base/clock.ts';
import { InferkvError, isInferkvError, messageOf } from '../../base/errors.ts';
import { tokenOf } from '../record.ts';
import {
  lengthOfParts,
  type CallOptions,
  type EpochAuthority,
  type GetOptions,
  type GrantAuthority,
  type PutOptions,
  type PutOutcome,
  type Store,
  type StoreStats,
  type StoreTraits,
} from '../store.ts';
import { ENTRY_BYTES, isSamePlace, type Entry } from './entry.ts';
import { Environment } from './environment.ts';
import { diskEpochs, diskGrants, forgetGrants } from './epochs.ts';
import { Evictor } from './evictor.ts';
import { codeOf, systemFiles, type FileLayer } from './files.ts';
import { newNonce } from './folder.ts';
import { planOf, type DiskPlan, type DiskStoreOptions } from './options.ts';
import { Shelf, type DiskFault } from './shelf.ts';
import { ownRow } from './writers.ts';
import { Writer, type Writing } from './writer.ts';

/** What a disk store knows of itself. */
export interface DiskStats extends StoreStats {
  /** Records that the index told of and that were not there, by reason: misses, all of them. */
  readonly faults: Readonly<Record<DiskFault, number>>;
}

interface Open {
  readonly shelf: Shelf;
  readonly writer: Writer;
  readonly evictor: Evictor;
}

const TICK_MS = 1000;
const TICKS_OF_A_BEAT = 10;
const HEAD_BYTES = 56;
const ATTEMPTS = 4;
const MAP_FULL = -30_792;
const ENOSPC = 28;

/** Records in a folder: docs/stores/disk.md. */
export class DiskStore implements Store {
  readonly name = 'disk';
  readonly traits: StoreTraits;
  readonly epochs: EpochAuthority;
  readonly grants: GrantAuthority;
  readonly #plan: DiskPlan;
  readonly #files: FileLayer;
  readonly #clock: Clock;
  readonly #wallClock: WallClock;
  readonly #faults: Record<DiskFault, number> = { entry: 0, missing: 0, cut: 0, foreign: 0 };
  readonly #active = new Set<Promise<unknown>>();
  #open: Open | undefined;
  #opening: Promise<Open> | undefined;
  #restored = 0;
  #evictedBefore = 0;
  #closing: Promise<void> | undefined;
  #ticks = 0;
  #timer: { cancel(): void } | undefined;

  constructor(options: DiskStoreOptions) {
    this.#plan = planOf(options);
    this.#files = options.files ?? systemFiles;
    this.#clock = options.clock ?? systemClock;
    this.#wallClock = options.wallClock ?? systemWallClock;
    this.traits = { maxRecordBytes: this.#plan.maxRecordBytes, persistent: true, reach: 'machine' };
    this.epochs = diskEpochs((call, work) => this.#call(call, ({ shelf }) => work(shelf)));
    this.grants = diskGrants((call, work) => this.#call(call, ({ shelf }) => work(shelf)));
  }

  get(name: string, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    // Memory that the caller has given must not be written to after its promise has settled, so that is waited for.
    return this.#call(options, (open) => this.#get(open, name, options), options.allocate !== undefined);
  }

  getMany(names: readonly string[], options: CallOptions = {}): Promise<readonly (Uint8Array | undefined)[]> {
    return this.#call(options, (open) => Promise.all(names.map((name) => this.#get(open, name, options))));
  }

  put(name: string, parts: readonly Uint8Array[], options: PutOptions = {}): Promise<PutOutcome> {
    const { ttlMs = Number.POSITIVE_INFINITY, signal } = options;
    return this.#call(options, async (open) => {
      const length = lengthOfParts(parts);
      if (length > this.#plan.maxRecordBytes) return 'too-large';
      const fence = options.token ?? 0;
      // What is no record may have any number there, also one that cannot be told exactly.
      const token = Math.min(Number.MAX_SAFE_INTEGER, Math.max(tokenIn(parts), fence));
      const expiresAtMs = this.#wallClock() + ttlMs;
      return this.#put(open, { name, parts, length, expiresAtMs, token, fence, signal });
    });
  }

  delete(name: string, options: CallOptions = {}): Promise<boolean> {
    return this.#call(options, ({ shelf }) =>
      shelf.change((draft) => {
        const isThere = draft.find(name) !== undefined;
        draft.dropEntry(name);
        return isThere;
      }),
    );
  }

  stats(): DiskStats {
    const { budgetBytes } = this.#plan;
    const own = { budgetBytes, restored: this.#restored, faults: { ...this.#faults } };
    const open = this.#open;
    const evictions = this.#evictedBefore + (open?.evictor.evictions ?? 0);
    if (open === undefined || open.shelf.env.isClosed) return { ...own, evictions };
    const { env } = open.shelf;
    let usedBytes = env.fileBytes();
    for (const { value } of env.tables.segments.getRange()) if (value.isFile) usedBytes += value.charge;
    return { ...own, evictions, records: env.countRecords(), usedBytes };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #get({ shelf }: Open, name: string, options: GetOptions): Promise<Uint8Array | undefined> {
    let memory: Uint8Array | undefined;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const found = shelf.find(name);
      if (found === undefined) return undefined;
      if (found === 'entry') {
        this.#forget(shelf, name, 'entry');
        return undefined;
      }
      const { entry, bytes } = found;
      if (entry.isInline) return copyOf(bytes.subarray(ENTRY_BYTES, ENTRY_BYTES + entry.length), options);
      if (memory?.length !== entry.length) memory = memoryFor(entry.length, options);
      const fault = await shelf.read(name, entry, memory);
      if (fault === undefined) {
        shelf.mark(entry);
        return memory;
      }
      // It may have been moved meanwhile, or overwritten.
      const again = shelf.find(name);
      if (again !== undefined && (again === 'entry' || !isSamePlace(again.entry, entry))) continue;
      if (again !== undefined) this.#forget(shelf, name, fault, entry);
      return undefined;
    }
    return undefined;
  }

  async #put({ shelf, writer, evictor }: Open, writing: Writing): Promise<PutOutcome> {
    try {
      let outcome = 'no-room' as string;
      if (writing.length <= this.#plan.inlineBytes) outcome = await writer.putInline(writing);
      if (outcome === 'no-room' || outcome === 'lost') outcome = await writer.putFile(writing);
      evictor.relieveIndex();
      if (outcome === 'stored' && this.#plan.isDurable) await shelf.env.flushed();
      return outcome as PutOutcome;
    } catch (error) {
      if (codeOf(error) === 'ENOSPC' || codeOf(error) === 'EDQUOT') return 'full';
      if (codeOf(error) === MAP_FULL || codeOf(error) === ENOSPC) return 'full';
      throw error;
    }
  }

  #forget(shelf: Shelf, name: string, fault: DiskFault, at?: Entry): void {
    this.#faults[fault]++;
    // If it cannot be removed now, it is found again.
    const removed = shelf.change((draft) =>
      at === undefined ? draft.dropBroken(name) : void draft.dropEntry(name, at),
    );
    this.#track(removed).catch(() => undefined);
  }

  /** Every call: opens the folder if need be, and turns what goes wrong into what the contract says. */
  async #call<T>({ signal }: CallOptions, work: (open: Open) => Promise<T>, waits = false): Promise<T> {
    if (this.#closing !== undefined) throw new InferkvError('ERR_INFERKV_CLOSED', 'The store is closed.');
    throwIfAborted(signal);
    try {
      let open = this.#open;
      if (open === undefined || open.shelf.env.isClosed) open = await orAborted(this.#opened(), signal);
      const working = this.#track(work(open));
      if (!waits) return await orAborted(working, signal);
      const result = await working;
      throwIfAborted(signal);
      return result;
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #track<T>(promise: Promise<T>): Promise<T> {
    this.#active.add(promise);
    const forget = (): void => void this.#active.delete(promise);
    promise.then(forget, forget);
    return promise;
  }

  #failed(error: unknown): InferkvError {
    if (isInferkvError(error)) return error;
    // The folder may have gone: the next call looks.
    if (codeOf(error) === 'ENOENT') this.#look();
    return new InferkvError(
      'ERR_INFERKV_STORE_FAILED',
      `The disk store in ${this.#plan.folder} failed: ${messageOf(error)}. ${adviceOf(codeOf(error))}`,
      { cause: error, key: this.#plan.folder },
    );
  }

  #opened(): Promise<Open> {
    this.#opening ??= this.#reopen().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  async #reopen(): Promise<Open> {
    const old = this.#open;
    this.#open = undefined;
    if (old !== undefined) {
      this.#evictedBefore += old.evictor.evictions;
      await old.writer.abandon();
      old.shelf.handles.prune(() => false);
      await old.shelf.env.release();
    }
    const env = Environment.acquire(this.#plan.folder);
    try {
      const shelf = new Shelf(env, this.#plan, this.#files, this.#wallClock, newNonce());
      const parts: { writer?: Writer } = {};
      const evictor = new Evictor(shelf, () => parts.writer as Writer);
      const writer = new Writer(shelf, (bytes) => evictor.makeRoom(bytes));
      parts.writer = writer;
      this.#restored = env.countRecords();
      await shelf.change(({ tables }) => tables.writers.putSync(shelf.owner, ownRow(this.#wallClock)));
      await evictor.recover();
      this.#open = { shelf, writer, evictor };
      this.#timer?.cancel();
      this.#timer = this.#clock.after(TICK_MS, () => this.#tick());
      return this.#open;
    } catch (error) {
      await env.release();
      throw error;
    }
  }

  #tick(): void {
    if (this.#closing !== undefined) return;
    this.#timer = this.#clock.after(TICK_MS, () => this.#tick());
    this.#look();
    const open = this.#open;
    if (open === undefined || open.shelf.env.isClosed) return;
    const { shelf, writer } = open;
    this.#ticks++;
    const isBeat = this.#ticks % TICKS_OF_A_BEAT === 0;
    const work = async (): Promise<void> => {
      shelf.prune();
      await shelf.writeMarks();
      await writer.tidy();
      if (!isBeat) return;
      await shelf.change((draft) => {
        draft.tables.writers.putSync(shelf.owner, ownRow(this.#wallClock));
        forgetGrants(draft);
      });
    };
    // Upkeep: what fails now is done the next time.
    this.#track(work()).catch(() => undefined);
  }

  /** Lets go of a folder that was deleted or replaced under us. */
  #look(): void {
    const env = this.#open?.shelf.env;
    try {
      if (env !== undefined && !env.isClosed && env.isLost()) void env.discard();
    } catch {
      // It cannot be told now.
    }
  }

  async #close(): Promise<void> {
    this.#timer?.cancel();
    await this.#opening?.catch(() => undefined);
    while (this.#active.size > 0) await Promise.allSettled(this.#active);
    const open = this.#open;
    if (open === undefined) return;
    const { shelf, writer, evictor } = open;
    await evictor.idle();
    try {
      await shelf.writeMarks();
      await writer.close();
      await shelf.change(({ tables }) => void tables.writers.removeSync(shelf.owner));
    } catch {
      // What could not be written down is found by the next one who opens the folder.
      await writer.abandon();
    }
    shelf.handles.prune(() => false);
    await shelf.env.release();
  }
}

function memoryFor(length: number, { allocate }: GetOptions): Uint8Array {
  if (allocate !== undefined) return allocate(length);
  const memory = Buffer.allocUnsafeSlow(length);
  return new Uint8Array(memory.buffer, memory.byteOffset, length);
}

/** The index's memory is overwritten by the next read, which `allocate` may make, whatever it does. */
function copyOf(bytes: Uint8Array, { allocate }: GetOptions): Uint8Array {
  const copy = Uint8Array.from(bytes);
  const memory = allocate?.(copy.length);
  memory?.set(copy);
  return memory ?? copy;
}

/** The token of the record in these parts. */
function tokenIn(parts: readonly Uint8Array[]): number {
  const [first] = parts;
  if (first !== undefined && first.length >= HEAD_BYTES) return tokenOf(first);
  const head = Buffer.concat(parts.map((part) => part.subarray(0, HEAD_BYTES))).subarray(0, HEAD_BYTES);
  return tokenOf(head);
}

function adviceOf(code: string | number | undefined): string {
  if (code === 'EROFS' || code === 'EACCES' || code === 'EPERM') {
    return 'The folder cannot be written to: make it writable for this user, or name another.';
  }
  if (code === 'EMFILE' || code === 'ENFILE') return 'Too many files are open: raise the limit (ulimit -n).';
  if (code === 'ENOENT') return 'The folder was deleted; it is made anew with the next call.';
  return 'The next call tries anew.';
}
