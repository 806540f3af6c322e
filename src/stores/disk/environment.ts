import { realpathSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { open, type Database, type RootDatabase } from 'lmdb';

import { InferkvError } from '../../base/errors.ts';
import { beginAnew, claimFolder, indexPath, inodeOf } from './folder.ts';

/** One segment: a file, or a generation of small records in the index, reclaimed as a whole. */
export interface SegmentRow {
  readonly isFile: boolean;
  /** What its file has in its name. */
  readonly nonce: string;
  /** Who writes it; `''` once it is full. */
  readonly owner: string;
  /** Where it stands in the queue of what is reclaimed. */
  readonly order: number;
  /** Bytes it takes of the budget: while it is open, all that it may come to. */
  readonly charge: number;
  /** Bytes in it that are in use. */
  readonly live: number;
  /** Records in it that are in use. */
  readonly records: number;
}

/** A process's store object, so that others can tell what is left of one that died. */
export interface WriterRow {
  readonly pid: number;
  /** When the process was started, by the machine's count; a number is given again, both together are not. */
  readonly startedAt: string;
  /** Where the number means something: a machine's namespace of processes. */
  readonly space: string;
  readonly beatMs: number;
}

/** Right to do something, until a time. */
export interface HeldRow {
  readonly owner: string;
  readonly token: number;
  readonly untilMs: number;
  readonly ttlMs: number;
}

/** The tables of the index. */
export interface Tables {
  readonly records: Database<Buffer, string>;
  /** Names by segment and offset. */
  readonly members: Database<string, [number, number]>;
  /** Places that were read since they were written. */
  readonly touched: Database<number, [number, number]>;
  readonly segments: Database<SegmentRow, number>;
  readonly writers: Database<WriterRow, string>;
  readonly epochs: Database<number, string>;
  readonly grants: Database<HeldRow, string>;
  /** Counters by name. */
  readonly counters: Database<number, string>;
}

const environments = new Map<string, Environment>();

/**
 * The index of one folder, opened once in a process however many stores there are: two that are opened side by side would
 * wait for each other's lock on one thread.
 */
export class Environment {
  readonly folder: string;
  readonly tables: Tables;
  readonly #root: RootDatabase;
  readonly #inode: number | undefined;
  #users = 0;
  #closing: Promise<void> | undefined;

  private constructor(folder: string) {
    this.folder = folder;
    this.#root = open({
      path: indexPath(folder),
      noSubdir: true,
      maxDbs: 12,
      maxReaders: 512,
      // Acknowledged when others see it; that it is on the disk is waited for where it matters.
      separateFlushed: true,
      // Otherwise a commit that fails, on a full disk say, leaves a rejected promise that nobody can get hold of.
      eventTurnBatching: false,
      encoding: 'binary',
    });
    // Readers that were killed would keep pages from being used again.
    this.#root.readerCheck();
    this.#inode = inodeOf(indexPath(folder));
    this.tables = {
      records: this.#root.openDB({ name: 'records', encoding: 'binary' }),
      members: this.#root.openDB({ name: 'members', encoding: 'string' }),
      touched: this.#root.openDB({ name: 'touched', encoding: 'ordered-binary' }),
      segments: this.#root.openDB({ name: 'segments', encoding: 'json' }),
      writers: this.#root.openDB({ name: 'writers', encoding: 'json' }),
      epochs: this.#root.openDB({ name: 'epochs', encoding: 'json' }),
      grants: this.#root.openDB({ name: 'grants', encoding: 'json' }),
      counters: this.#root.openDB({ name: 'counters', encoding: 'json' }),
    };
  }

  /** The one of that folder, for one more user. */
  static acquire(folder: string): Environment {
    claimFolder(folder);
    const path = realpathSync(folder);
    let found = environments.get(path);
    if (found?.isLost() === true) {
      void found.discard();
      found = undefined;
    }
    if (found === undefined) {
      found = Environment.#open(path);
      environments.set(path, found);
    }
    found.#users++;
    return found;
  }

  static #open(folder: string): Environment {
    try {
      return new Environment(folder);
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      // Invalid, corrupted, another version, a page that cannot be: the numbers are lmdb's.
      if (![-30_793, -30_794, -30_796, -30_797].includes(code as number)) throw error;
      beginAnew(folder, `its index cannot be opened (${(error as Error).message})`);
      return new Environment(folder);
    }
  }

  get isClosed(): boolean {
    return this.#closing !== undefined;
  }

  /** Whether the file has been deleted or replaced under us. */
  isLost(): boolean {
    return inodeOf(indexPath(this.folder)) !== this.#inode;
  }

  /** Runs alone among all processes, and is acknowledged when others see it. What throws before it has written leaves nothing. */
  async change<T>(run: (tables: Tables) => T): Promise<T> {
    if (this.isClosed)
      throw new InferkvError('ERR_INFERKV_STORE_FAILED', 'The index was closed; the next call opens it.');
    try {
      return await this.#root.transaction(() => run(this.tables));
    } catch (error) {
      throw await rootOf(error);
    }
  }

  /** Settles when everything acknowledged so far is on the disk. */
  async flushed(): Promise<void> {
    await this.#root.flushed;
  }

  /** Bytes of the index's file. */
  fileBytes(): number {
    const { lastPageNumber, pageSize } = this.#root.getStats() as { lastPageNumber: number; pageSize: number };
    return (lastPageNumber + 1) * pageSize;
  }

  /** Bytes of pages in use for records and what leads to them. */
  usedBytes(): number {
    const { records, members, touched } = this.tables;
    return [records, members, touched].reduce((sum, table) => {
      const { treeBranchPageCount, treeLeafPageCount, overflowPages, pageSize } = table.getStats() as TableStats;
      return sum + (treeBranchPageCount + treeLeafPageCount + overflowPages) * pageSize;
    }, 0);
  }

  countRecords(): number {
    return (this.tables.records.getStats() as TableStats).entryCount;
  }

  /** One user less; the last one closes it. */
  async release(): Promise<void> {
    this.#users--;
    if (this.#users <= 0) await this.discard();
  }

  /** Closes it for all who use it: they open it anew. */
  discard(): Promise<void> {
    if (environments.get(this.folder) === this) environments.delete(this.folder);
    this.#closing ??= this.#root.close().catch(() => undefined);
    return this.#closing;
  }
}

interface TableStats {
  readonly pageSize: number;
  readonly treeBranchPageCount: number;
  readonly treeLeafPageCount: number;
  readonly overflowPages: number;
  readonly entryCount: number;
}

/** A commit that fails has its cause in a promise, which nobody else listens to, and which may be late or never come. */
async function rootOf(failure: unknown): Promise<unknown> {
  const { commitError } = (failure ?? {}) as { commitError?: Promise<unknown> };
  try {
    return await Promise.race([commitError ?? failure, nextTurn(failure)]);
  } catch (cause) {
    return cause;
  }
}
