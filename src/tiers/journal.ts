import { join } from 'node:path';

import type { Clock } from '../base/clock.ts';
import { InferkvError, messageOf } from '../base/errors.ts';
import { systemFiles, type AppendedFile, type FileLayer } from './file-layer.ts';
import { frameOf, readFrames, type JournalEntry } from './journal-frames.ts';
import { disown, isAbandoned, makeOwnFolderName } from '../base/process-folder.ts';

/**
 * What a crash may cost of what was acknowledged. `none`: everything that is not flushed (there is no journal); `interval`: if the
 * machine goes down what came in the last `syncMs`, if only the process does nothing; `every`: nothing.
 */
export type Durability = 'none' | 'interval' | 'every';

/** What a journal is made of. */
export interface JournalOptions {
  /** Where the journals of all processes lie, each in a folder of its own. */
  readonly folder: string;
  readonly durability: Exclude<Durability, 'none'>;
  /** Milliseconds between syncs where `durability` is `interval`; 1,000 if left out. */
  readonly syncMs?: number | undefined;
  /** Bytes after which a new file is begun; 16 MiB if left out. */
  readonly maxFileBytes?: number | undefined;
  readonly clock: Clock;
  readonly files?: FileLayer | undefined;
}

/** A write that an earlier process acknowledged and did not flush. */
export type Replayed = Extract<JournalEntry, { readonly kind: 'put' }>;

interface JournalFile {
  readonly path: string;
  readonly file: AppendedFile;
  bytes: number;
  /** Names whose last write lies here and is not done, with its sequence. */
  readonly live: Map<string, number>;
}

interface Pending {
  readonly parts: readonly Uint8Array[];
  readonly done: PromiseWithResolvers<void>;
}

const DEFAULT_SYNC_MS = 1000;
const DEFAULT_FILE_BYTES = 16 * 2 ** 20;
const ADOPTED = 'adopted';

/**
 * Writes that are acknowledged and not yet where they belong, in files that are only ever appended to. Files go, the oldest
 * first, when nothing in them is wanted any more. Format and promises: docs/stores/journal.md.
 */
export class Journal {
  readonly #options: JournalOptions;
  readonly #layer: FileLayer;
  readonly #name: string;
  readonly #folder: string;
  readonly #files: JournalFile[] = [];
  #pending: Pending[] = [];
  #writing: Promise<void> | undefined;
  #number = 0;
  #sequence = 0;
  #isDirty = false;
  #timer: { cancel(): void } | undefined;
  #failure: InferkvError | undefined;
  #isClosed = false;
  /** Bytes of adopted files that were no whole frames. */
  lostBytes = 0;

  private constructor(options: JournalOptions) {
    this.#options = options;
    this.#layer = options.files ?? systemFiles;
    this.#name = makeOwnFolderName();
    this.#folder = join(options.folder, this.#name);
  }

  /**
   * Begins a journal, and takes over those of processes that are gone.
   *
   * @returns what is to be written again, the oldest first; it stays on the disk until `forgetAdopted`
   * @throws InferkvError `ERR_INFERKV_STORE_FAILED` where the folder cannot be used
   */
  static async open(
    options: JournalOptions,
  ): Promise<{ readonly journal: Journal; readonly replayed: readonly Replayed[] }> {
    const journal = new Journal(options);
    try {
      await journal.#layer.makeFolder(journal.#folder);
      await journal.#layer.syncFolder(options.folder);
      const replayed = await journal.#adopt();
      await journal.#begin();
      if (options.durability === 'interval') journal.#syncLater();
      return { journal, replayed };
    } catch (error) {
      throw new InferkvError(
        'ERR_INFERKV_STORE_FAILED',
        `The journal in ${options.folder} cannot be used: ${messageOf(error)}. Give a folder that can be written to, or set durability to "none".`,
        { cause: error, key: options.folder },
      );
    }
  }

  /** Bytes of all files. */
  get bytes(): number {
    return this.#files.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Names whose writes keep the oldest file from going, where there are several files. */
  get oldest(): readonly string[] {
    const [oldest] = this.#files;
    return this.#files.length < 2 || oldest === undefined ? [] : [...oldest.live.keys()];
  }

  /**
   * Notes a write down; settles when it is as durable as set.
   *
   * @returns its sequence, for `done`
   * @throws InferkvError `ERR_INFERKV_STORE_FAILED` once the disk has failed: nothing can be promised from then on
   */
  async put(
    name: string,
    record: readonly Uint8Array[],
    facts: { readonly token: number; readonly expiresAtMs: number },
  ): Promise<number> {
    const sequence = ++this.#sequence;
    await this.#append({ kind: 'put', sequence, name, record, ...facts }, (file) => {
      for (const each of this.#files) each.live.delete(name);
      file.live.set(name, sequence);
    });
    return sequence;
  }

  /** Notes that a write has come where it belongs, or is not wanted any more; waits for nothing. */
  done(name: string, sequence: number): void {
    for (const { live } of this.#files) if ((live.get(name) ?? Infinity) <= sequence) live.delete(name);
    this.#append({ kind: 'done', sequence, name }, () => undefined).catch(() => undefined);
  }

  /** What was taken over is in this journal, or where it belongs: the old files go. */
  async forgetAdopted(): Promise<void> {
    const mine = await this.#layer.list(this.#folder);
    for (const name of mine.filter((each) => each.startsWith(ADOPTED))) {
      await this.#layer.removeFolder(join(this.#folder, name));
    }
  }

  /** Settles when everything noted down so far is on the disk itself. */
  async sync(): Promise<void> {
    await this.#writing;
    await this.#files.at(-1)?.file.sync();
  }

  /** Ends; if nothing is wanted any more, nothing is left behind. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#timer?.cancel();
    await this.#writing?.catch(() => undefined);
    const isEmpty = this.#files.every(({ live }) => live.size === 0);
    for (const { file } of this.#files) {
      if (!isEmpty) await file.sync().catch(() => undefined);
      await file.close().catch(() => undefined);
    }
    const left = await this.#layer.list(this.#folder);
    const hasAdopted = left.some((each) => each.startsWith(ADOPTED));
    if (isEmpty && !hasAdopted && this.#failure === undefined) await this.#layer.removeFolder(this.#folder);
    disown(this.#name);
  }

  #append(entry: JournalEntry, noted: (file: JournalFile) => void): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#isClosed) return Promise.reject(new InferkvError('ERR_INFERKV_CLOSED', 'The journal is closed.'));
    const done = Promise.withResolvers<void>();
    const parts = frameOf(entry);
    const noting = done.promise.then(() => undefined);
    this.#pending.push({ parts, done });
    const file = this.#files.at(-1);
    // Before it is there, so that the file does not go meanwhile.
    if (file !== undefined) noted(file);
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined;
    });
    return noting;
  }

  /** Writes what is pending, together, until nothing is. */
  async #write(): Promise<void> {
    while (this.#pending.length > 0) {
      const batch = this.#pending;
      this.#pending = [];
      const file = this.#files.at(-1) as JournalFile;
      try {
        const parts = batch.flatMap((each) => each.parts);
        await file.file.append(parts);
        file.bytes += parts.reduce((sum, { length }) => sum + length, 0);
        this.#isDirty = true;
        if (this.#options.durability === 'every') await this.#syncNow(file);
        for (const { done } of batch) done.resolve();
        await this.#turn(file);
      } catch (error) {
        this.#fail(error, batch);
      }
    }
  }

  async #syncNow(file: JournalFile): Promise<void> {
    this.#isDirty = false;
    await file.file.sync();
  }

  #syncLater(): void {
    if (this.#isClosed) return;
    this.#timer = this.#options.clock.after(this.#options.syncMs ?? DEFAULT_SYNC_MS, () => {
      void this.#syncIfDirty().finally(() => this.#syncLater());
    });
  }

  async #syncIfDirty(): Promise<void> {
    const file = this.#files.at(-1);
    if (!this.#isDirty || file === undefined) return;
    await this.#syncNow(file).catch((error: unknown) => this.#fail(error, []));
  }

  /** Begins a new file where the last is full, and lets those go that nobody wants. */
  async #turn(file: JournalFile): Promise<void> {
    if (file.bytes >= (this.#options.maxFileBytes ?? DEFAULT_FILE_BYTES)) {
      // Later syncs are the next file's.
      await file.file.sync();
      await this.#begin();
    }
    for (let oldest = this.#files[0]; oldest !== undefined; oldest = this.#files[0]) {
      if (this.#files.length < 2 || oldest.live.size > 0) return;
      this.#files.shift();
      await oldest.file.close();
      await this.#layer.remove(oldest.path);
      // In this order on the disk, too: notes that something is done lie in later files.
      await this.#layer.syncFolder(this.#folder);
    }
  }

  async #begin(): Promise<void> {
    const path = join(this.#folder, `${String(this.#number++).padStart(8, '0')}.journal`);
    const file = await this.#layer.create(path);
    await this.#layer.syncFolder(this.#folder);
    this.#files.push({ path, file, bytes: 0, live: new Map() });
  }

  #fail(error: unknown, batch: readonly Pending[]): void {
    // After a failed write or sync nobody knows what is on the disk, so it is not tried again.
    this.#failure ??= new InferkvError(
      'ERR_INFERKV_STORE_FAILED',
      `The journal in ${this.#options.folder} cannot be written: ${messageOf(error)}. Writes go straight to their tiers until the process is started again.`,
      { cause: error, key: this.#options.folder },
    );
    for (const { done } of [...batch, ...this.#pending]) done.reject(this.#failure);
    this.#pending = [];
  }

  /** Takes over the folders of processes that are gone: each becomes part of this one, so that it is taken over again if this process goes, too. */
  async #adopt(): Promise<readonly Replayed[]> {
    const { folder } = this.#options;
    const replayed: Replayed[] = [];
    for (const name of await this.#layer.list(folder)) {
      if (isAbandoned(name) !== true) continue;
      const adopted = join(this.#folder, `${ADOPTED}-${name}`);
      try {
        await this.#layer.rename(join(folder, name), adopted);
      } catch {
        // Another process was faster.
        continue;
      }
      replayed.push(...(await this.#read(adopted)));
    }
    return replayed;
  }

  /** What a folder holds that is not done; what it had taken over itself is older. */
  async #read(folder: string): Promise<readonly Replayed[]> {
    const names = await this.#layer.list(folder);
    const older: Replayed[] = [];
    for (const name of names.filter((each) => each.startsWith(ADOPTED)))
      older.push(...(await this.#read(join(folder, name))));
    const left = new Map(older.map((each) => [each.name, each]));
    for (const name of names.filter((each) => each.endsWith('.journal'))) {
      const { entries, lostBytes } = readFrames(await this.#layer.read(join(folder, name)));
      this.lostBytes += lostBytes;
      for (const entry of entries) {
        if (entry.kind === 'put') {
          left.delete(entry.name);
          left.set(entry.name, entry);
        } else if ((left.get(entry.name)?.sequence ?? Infinity) <= entry.sequence) left.delete(entry.name);
      }
    }
    return [...left.values()];
  }
}
