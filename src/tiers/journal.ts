import { randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';

import type { Clock, WallClock } from '../base/clock.ts';
import { InferkvError, messageOf } from '../base/errors.ts';
import { lengthOfParts } from '../stores/store.ts';
import { systemFiles, type FileLayer } from './file-layer.ts';
import { adopt, letGo, machineOwners, type Adopted, type Owners } from './journal-adoption.ts';
import { JournalFiles, type FilesStats } from './journal-files.ts';
import { readFrames, type Ordered, type PutEntry } from './journal-frames.ts';

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
  /** Bytes of all files from which on what is still wanted of the oldest is copied, so that it can go; 256 MiB if left out. */
  readonly maxBytes?: number | undefined;
  readonly clock: Clock;
  readonly wallClock: WallClock;
  /** The machine's if left out. */
  readonly files?: FileLayer | undefined;
  /** The processes of this machine if left out. */
  readonly owners?: Owners | undefined;
}

/** A write on its way into the journal. */
export interface Noting {
  /** What `done` calls it by. */
  readonly order: Ordered;
  /** Settles when it is as durable as set; rejected with `ERR_INFERKV_STORE_FAILED` where the disk fails. */
  readonly noted: Promise<void>;
}

/** A write that an earlier process acknowledged and did not flush. */
export interface Replayed {
  readonly name: string;
  readonly token: number;
  readonly expiresAtMs: number;
  readonly order: Ordered;
  readonly lengthBytes: number;
}

/** What is counted of a journal. */
export interface JournalStats extends FilesStats {
  /** Writes of processes that are gone, which were not done. */
  readonly replayed: number;
  /** Those that nobody wants any more by their expiry. */
  readonly expired: number;
  /** Bytes of their journals that were not whole: what a crash cut off, or damage. */
  readonly damagedBytes: number;
}

const SEQUENCES_A_MS = 4096;

/**
 * Writes that are acknowledged and not yet where they belong, in files that are only ever appended to. Files go, the oldest
 * first, when nothing in them is wanted any more. Format and promises: docs/stores/journal.md.
 *
 * One journal does for all targets of a process: its entries say which one they are for.
 */
export class Journal {
  readonly #options: JournalOptions;
  readonly #layer: FileLayer;
  readonly #owners: Owners;
  readonly #name: string;
  readonly #folder: string;
  readonly #writer: number = randomBytes(4).readUInt32LE();
  readonly #files: JournalFiles;
  readonly #replayed = new Map<string, Replayed[]>();
  readonly #counts = { replayed: 0, expired: 0, damagedBytes: 0 };
  #sequence = 0;
  #closing: Promise<void> | undefined;

  private constructor(options: JournalOptions) {
    this.#options = options;
    this.#layer = options.files ?? systemFiles;
    this.#owners = options.owners ?? machineOwners;
    this.#name = this.#owners.make();
    this.#folder = join(options.folder, this.#name);
    this.#files = new JournalFiles({ ...options, files: this.#layer, folder: this.#folder });
  }

  /**
   * Begins a journal, and takes over those of processes that are gone: what was not done of theirs is part of this one from
   * then on, and can be had by `claim`.
   *
   * @throws InferkvError `ERR_INFERKV_STORE_FAILED` where the folder cannot be used
   */
  static async open(options: JournalOptions): Promise<Journal> {
    const journal = new Journal(options);
    try {
      await journal.#open();
      return journal;
    } catch (error) {
      journal.#owners.disown(journal.#name);
      throw new InferkvError(
        'ERR_INFERKV_STORE_FAILED',
        `The journal in ${options.folder} cannot be used: ${messageOf(error)}. Give a folder that can be written to, or set durability to "none".`,
        { cause: error, key: options.folder },
      );
    }
  }

  /** Notes a write down. The parts are not read after it has been noted. */
  put(
    target: string,
    name: string,
    record: readonly Uint8Array[],
    { token, expiresAtMs }: Pick<PutEntry, 'token' | 'expiresAtMs'>,
  ): Noting {
    const order: Ordered = { sequence: ++this.#sequence, writer: this.#writer };
    return { order, noted: this.#files.append({ kind: 'put', target, name, ...order, token, expiresAtMs, record }) };
  }

  /** Notes that a write, and every earlier one of that name, has come where it belongs, or is not wanted any more; waits for nothing. */
  done(target: string, name: string, order: Ordered): void {
    this.#files.mark({ kind: 'done', target, name, ...order });
  }

  /**
   * Settles when a crash of the machine cannot bring back what is done.
   *
   * @throws InferkvError `ERR_INFERKV_STORE_FAILED` where the disk fails
   */
  settleMarks(): Promise<void> {
    return this.#files.hasUnsyncedMarks ? this.#files.sync() : Promise.resolve();
  }

  /** What earlier processes left for a target, the oldest first. The first who asks gets it. */
  claim(target: string): readonly Replayed[] {
    const found = this.#replayed.get(target) ?? [];
    this.#replayed.delete(target);
    return found;
  }

  /** The record of a write that was taken over; `undefined` if it is done, or damaged by now. */
  load(target: string, { name, order }: Replayed): Promise<Uint8Array | undefined> {
    return this.#files.read({ target, name, ...order });
  }

  /**
   * Settles when everything noted down so far is on the disk itself.
   *
   * @throws InferkvError `ERR_INFERKV_STORE_FAILED` where the disk fails
   */
  sync(): Promise<void> {
    return this.#files.sync();
  }

  stats(): JournalStats {
    return { ...this.#files.stats(), ...this.#counts };
  }

  /** Ends. If nothing is wanted any more nothing is left behind; what is, is taken over by the next process. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #open(): Promise<void> {
    const { folder, wallClock } = this.#options;
    await this.#layer.makeFolder(this.#folder);
    await this.#layer.syncFolder(dirname(folder));
    await this.#layer.syncFolder(folder);
    const nowMs = wallClock();
    const adopted = await adopt(this.#layer, { root: folder, own: this.#folder, owners: this.#owners, nowMs });
    // Greater than all that was seen; and, as time goes by faster than writes, than that of most who are still alive.
    this.#sequence = Math.max(adopted.lastSequence + 1, Math.floor(nowMs) * SEQUENCES_A_MS);
    this.#counts.expired = adopted.expired;
    this.#counts.damagedBytes = adopted.damagedBytes;
    await this.#files.begin();
    if (adopted.folders.length > 0) await this.#takeOver(adopted);
  }

  /** Copies what is still wanted, as it was, before the folders that it lay in go. */
  async #takeOver({ files, folders }: Adopted): Promise<void> {
    const { folder } = this.#options;
    const taken: { readonly target: string; readonly write: Replayed }[] = [];
    for (const { path, fileId, at } of files) {
      const { frames } = readFrames(await this.#layer.read(path), fileId);
      const wanted = frames.filter((frame) => at.has(frame.at)).map(({ entry }) => entry);
      await Promise.all(wanted.map((entry) => this.#files.append(entry)));
      taken.push(...wanted.flatMap((entry) => (entry.kind === 'put' ? [replayedOf(entry)] : [])));
    }
    await this.#files.sync();
    await this.#layer.syncFolder(folder);
    for (const adopted of folders)
      await letGo(this.#layer, dirname(adopted), adopted.slice(dirname(adopted).length + 1));
    for (const { target, write } of taken.toSorted((a, b) => a.write.order.sequence - b.write.order.sequence)) {
      const writes = this.#replayed.get(target) ?? [];
      writes.push(write);
      this.#replayed.set(target, writes);
    }
    this.#counts.replayed = taken.length;
  }

  async #close(): Promise<void> {
    const isEmpty = await this.#files.close();
    // What cannot be removed now is found empty by the next process.
    if (isEmpty) await letGo(this.#layer, this.#options.folder, this.#name).catch(() => undefined);
    this.#owners.disown(this.#name);
  }
}

function replayedOf({ target, name, token, expiresAtMs, sequence, writer, record }: PutEntry): {
  readonly target: string;
  readonly write: Replayed;
} {
  return {
    target,
    write: { name, token, expiresAtMs, order: { sequence, writer }, lengthBytes: lengthOfParts(record) },
  };
}
