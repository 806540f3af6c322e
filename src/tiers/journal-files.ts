import { randomBytes } from 'node:crypto';
import { join } from 'node:path';

import type { Clock } from '../base/clock.ts';
import { InferkvError, messageOf } from '../base/errors.ts';
import { lengthOfParts } from '../stores/store.ts';
import type { AppendedFile, FileLayer } from './file-layer.ts';
import { journalFileName, keyOf } from './journal-adoption.ts';
import { FILE_ID_BYTES, frameOf, readFrames, type JournalEntry, type MarkEntry } from './journal-frames.ts';
import { LivePlaces, type JournalFile, type Place, type Written } from './journal-places.ts';

/** What the files of a journal are made of. */
export interface JournalFilesOptions {
  /** Of this journal alone. */
  readonly folder: string;
  readonly durability: 'interval' | 'every';
  readonly syncMs?: number | undefined;
  readonly maxFileBytes?: number | undefined;
  readonly maxBytes?: number | undefined;
  readonly clock: Clock;
  readonly files: FileLayer;
}

/** What is counted of the files of a journal. */
export interface FilesStats {
  readonly files: number;
  readonly fileBytes: number;
  /** Writes that are noted down and not done, and their bytes. */
  readonly entries: number;
  readonly liveBytes: number;
  readonly appended: number;
  readonly syncs: number;
  /** Entries copied so that the oldest file could go. */
  readonly copied: number;
  /** Times that the disk failed. */
  readonly failures: number;
  readonly lastFailure: string | undefined;
}

interface Pending {
  /** Nothing if it is only there to have everything before it synced. */
  readonly entry: JournalEntry | undefined;
  readonly needsSync: boolean;
  readonly settled: PromiseWithResolvers<void>;
}

interface Tail {
  readonly file: JournalFile;
  readonly handle: AppendedFile;
}

const DEFAULT_SYNC_MS = 1000;
const DEFAULT_FILE_BYTES = 16 * 2 ** 20;
const DEFAULT_BYTES = 256 * 2 ** 20;
const MAX_BATCH_BYTES = 8 * 2 ** 20;
const RETRY_MS = 1000;

/** The files of one journal: entries are appended in batches that share a sync, and files go when nothing in them is wanted. */
export class JournalFiles {
  readonly #options: JournalFilesOptions;
  readonly #layer: FileLayer;
  /** The oldest first. */
  readonly #files: JournalFile[] = [];
  readonly #places = new LivePlaces();
  /** What is written to; nothing after the disk has failed: who knows what lies behind the last good byte of that file. */
  #tail: Tail | undefined;
  #pending: Pending[] = [];
  #working: Promise<void> | undefined;
  /** Marks that a crash of the machine could lose. */
  readonly #unsynced = new Set<MarkEntry>();
  /** Those of them that are in the last file. */
  #written: MarkEntry[] = [];
  #timer: { cancel(): void } | undefined;
  #number = 0;
  #failure: InferkvError | undefined;
  #retryAtMs = Number.NEGATIVE_INFINITY;
  #isClosed = false;
  readonly #counts: { -readonly [Name in 'appended' | 'syncs' | 'copied' | 'failures']: number } & {
    lastFailure: string | undefined;
  } = { appended: 0, syncs: 0, copied: 0, failures: 0, lastFailure: undefined };

  constructor(options: JournalFilesOptions) {
    this.#options = options;
    this.#layer = options.files;
  }

  get hasUnsyncedMarks(): boolean {
    return this.#unsynced.size > 0;
  }

  /** Begins the next file. Its name is on the disk before anything in it is promised. */
  async begin(): Promise<Tail> {
    const fileId = Uint8Array.from(randomBytes(FILE_ID_BYTES));
    const path = join(this.#options.folder, journalFileName(this.#number++, fileId));
    const handle = await this.#layer.create(path);
    const file: JournalFile = { path, fileId, bytes: 0, syncedBytes: 0, live: 0 };
    this.#files.push(file);
    const tail = { file, handle };
    this.#tail = tail;
    await this.#layer.syncFolder(this.#options.folder);
    return tail;
  }

  /** Notes an entry down; settles when it is as durable as set. */
  append(entry: JournalEntry): Promise<void> {
    return this.#add(entry, this.#options.durability === 'every');
  }

  /** Notes a mark down, soon; while the disk fails, as soon as it works. */
  mark(entry: MarkEntry): void {
    this.#unsynced.add(entry);
    this.#add(entry, false).catch(() => undefined);
  }

  /** Settles when everything before is on the disk itself. */
  sync(): Promise<void> {
    return this.#add(undefined, true);
  }

  /** The record of a write that is noted down and not done. */
  async read(write: Written): Promise<Uint8Array | undefined> {
    for (;;) {
      const place = this.#places.find(write);
      if (place === undefined) return undefined;
      const bytes = await this.#layer.readAt(place.file.path, place.at, place.lengthBytes).catch(() => undefined);
      // It may have been copied meanwhile.
      if (this.#places.find(write) !== place) continue;
      const entry = bytes === undefined ? undefined : readFrames(bytes, place.file.fileId).frames[0]?.entry;
      return entry?.kind === 'put' && keyOf(entry) === keyOf(write) ? entry.record[0] : undefined;
    }
  }

  stats(): FilesStats {
    const { entries, liveBytes } = this.#places;
    return { files: this.#files.length, fileBytes: this.#bytes, entries, liveBytes, ...this.#counts };
  }

  /** Ends; `true` if nothing that is noted down is wanted any more. */
  async close(): Promise<boolean> {
    this.#isClosed = true;
    this.#timer?.cancel();
    await this.#working;
    const isEmpty = this.#places.entries === 0;
    if (!isEmpty) await this.#tail?.handle.sync().catch(() => undefined);
    await this.#tail?.handle.close().catch(() => undefined);
    return isEmpty;
  }

  get #bytes(): number {
    return this.#files.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  #add(entry: JournalEntry | undefined, needsSync: boolean): Promise<void> {
    if (this.#isClosed) return Promise.reject(new InferkvError('ERR_INFERKV_CLOSED', 'The journal is closed.'));
    if (this.#failure !== undefined && this.#options.clock.now() < this.#retryAtMs)
      return Promise.reject(this.#failure);
    const settled = Promise.withResolvers<void>();
    this.#pending.push({ entry, needsSync, settled });
    this.#working ??= this.#work();
    return settled.promise;
  }

  /** Writes what is pending, many together, until nothing is. */
  async #work(): Promise<void> {
    // Whoever comes in the same turn shares the first write, too.
    await Promise.resolve();
    while (this.#pending.length > 0) {
      let batch = this.#take();
      try {
        await this.#write(batch);
        for (const { settled } of batch) settled.resolve();
        // From here on it is not the batch that fails.
        batch = [];
        await this.#tidy();
      } catch (error) {
        await this.#fail(error, batch);
      }
    }
    // In the same turn as it was seen that nothing is pending.
    this.#working = undefined;
  }

  #take(): readonly Pending[] {
    let bytes = 0;
    let count = 0;
    for (const { entry } of this.#pending) {
      bytes += entry?.kind === 'put' ? lengthOfParts(entry.record) : 0;
      if (count > 0 && bytes > MAX_BATCH_BYTES) break;
      count++;
    }
    return this.#pending.splice(0, count);
  }

  async #write(batch: readonly Pending[]): Promise<void> {
    const tail = this.#tail ?? (await this.#beginAgain());
    const entries = batch.flatMap(({ entry }) => (entry === undefined ? [] : [entry]));
    const { places, end } = await this.#put(tail, entries);
    const { durability, clock, syncMs = DEFAULT_SYNC_MS } = this.#options;
    if (batch.some(({ needsSync }) => needsSync)) await this.#sync(tail, end);
    else if (durability === 'interval')
      this.#timer ??= clock.after(syncMs, () => void this.sync().catch(() => undefined));
    tail.file.bytes = end;
    this.#failure = undefined;
    for (const [at, entry] of entries.entries()) this.#places.apply(entry, places[at] as Place);
    this.#counts.appended += entries.length;
  }

  /** After the disk has failed: a new file, and in it first what could not be marked. */
  async #beginAgain(): Promise<Tail> {
    const tail = await this.begin();
    this.#written = [];
    const owed = [...this.#unsynced];
    const { places, end } = await this.#put(tail, owed);
    tail.file.bytes = end;
    for (const [at, mark] of owed.entries()) this.#places.apply(mark, places[at] as Place);
    return tail;
  }

  /** Appends entries to the last file; they count when its `bytes` are raised to `end`. */
  async #put(
    { file, handle }: Tail,
    entries: readonly JournalEntry[],
  ): Promise<{ readonly places: readonly Place[]; readonly end: number }> {
    const parts: Uint8Array[] = [];
    let end = file.bytes;
    const places = entries.map((entry): Place => {
      const frame = frameOf(entry, file.fileId);
      const at = end;
      end += lengthOfParts(frame);
      parts.push(...frame);
      if (entry.kind !== 'put') this.#written.push(entry);
      return { sequence: entry.sequence, writer: entry.writer, file, at, lengthBytes: end - at };
    });
    if (parts.length > 0) await handle.append(parts);
    return { places, end };
  }

  async #sync({ file, handle }: Tail, upToBytes: number): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    const written = this.#written;
    this.#written = [];
    await handle.sync();
    file.syncedBytes = upToBytes;
    for (const mark of written) this.#unsynced.delete(mark);
    this.#counts.syncs++;
  }

  /** Begins a new file where the last is full, and lets those go that nobody wants. */
  async #tidy(): Promise<void> {
    const { maxFileBytes = DEFAULT_FILE_BYTES, maxBytes = DEFAULT_BYTES } = this.#options;
    const tail = this.#tail as Tail;
    if (tail.file.bytes >= maxFileBytes) {
      // Later syncs are the next file's.
      await this.#sync(tail, tail.file.bytes);
      this.#tail = undefined;
      await tail.handle.close();
      await this.begin();
    }
    await this.#retire();
    // What is wanted is bounded by whoever writes; copying most of it again and again would gain nothing.
    if (this.#files.length > 1 && this.#bytes > maxBytes && 2 * this.#places.liveBytes < this.#bytes)
      await this.#copy();
  }

  async #retire(): Promise<void> {
    for (let oldest = this.#files[0]; oldest?.live === 0; oldest = this.#files[0]) {
      const tail = this.#tail as Tail;
      if (oldest === tail.file) return;
      // What took the place of that which goes has to be there first.
      const isBehind = this.#options.durability === 'interval' && tail.file.syncedBytes < tail.file.bytes;
      if (isBehind) await this.#sync(tail, tail.file.bytes);
      await this.#layer.remove(oldest.path);
      this.#files.shift();
      // In this order on the disk, too: notes that something is done lie in later files than what they are about.
      await this.#layer.syncFolder(this.#options.folder);
    }
  }

  /** Copies what is wanted of the oldest file, as it is, to the last one. */
  async #copy(): Promise<void> {
    const [oldest] = this.#files;
    const tail = this.#tail as Tail;
    if (oldest === undefined || oldest === tail.file) return;
    const { frames } = readFrames(await this.#layer.read(oldest.path), oldest.fileId);
    const wanted = frames.filter(({ entry, at }) => this.#places.isAt(entry, oldest, at)).map(({ entry }) => entry);
    const { places, end } = await this.#put(tail, wanted);
    await this.#sync(tail, end);
    tail.file.bytes = end;
    for (const [at, entry] of wanted.entries()) this.#places.apply(entry, places[at] as Place);
    this.#counts.copied += wanted.length;
    await this.#retire();
  }

  /** The disk has failed: what was not written is refused, and so is everything for a while. */
  async #fail(cause: unknown, batch: readonly Pending[]): Promise<void> {
    const { folder, clock } = this.#options;
    const tail = this.#tail;
    this.#tail = undefined;
    this.#failure = new InferkvError(
      'ERR_INFERKV_STORE_FAILED',
      `The journal in ${folder} cannot be written: ${messageOf(cause)}. Writes go straight to their tiers; look at the disk. It is tried again by itself.`,
      { cause, key: folder },
    );
    this.#retryAtMs = clock.now() + RETRY_MS;
    this.#counts.failures++;
    this.#counts.lastFailure = this.#failure.message;
    this.#timer?.cancel();
    this.#timer = undefined;
    // It may lie there all the same, as far as anybody can know.
    for (const { entry } of batch) if (entry?.kind === 'put') this.#unsynced.add({ ...markOf(entry), kind: 'void' });
    for (const { settled } of [...batch, ...this.#pending]) settled.reject(this.#failure);
    this.#pending = [];
    if (tail === undefined) return;
    await tail.handle.truncate(tail.file.bytes).catch(() => undefined);
    await tail.handle.close().catch(() => undefined);
  }
}

function markOf({ target, name, sequence, writer }: JournalEntry): Written {
  return { target, name, sequence, writer };
}
