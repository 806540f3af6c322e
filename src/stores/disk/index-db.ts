import { createRequire } from 'node:module';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type * as Lmdb from 'lmdb';
import type { Database, RootDatabase } from 'lmdb';

import { InferkvError, messageOf } from '../../base/errors.ts';

/** Facts of a segment, shared by all processes. */
export interface SegmentFacts {
  /** Bytes of the file. */
  bytes: number;
  /** Of these, records that are in the index. */
  liveBytes: number;
  /** When it was begun, as a number that grows. */
  readonly order: number;
  /** It was taken away; its writer, which may not know yet, has to begin another one. */
  readonly isGone?: boolean;
}

/** What the folder knows of itself. */
export interface FolderFacts {
  /** Bytes of records in the index. */
  inlineBytes: number;
  /** Bytes of all segments. */
  segmentBytes: number;
  records: number;
  /** The last number given to a segment or an inline record. */
  order: number;
  evictions: number;
}

/** The databases of a folder: names and values as the comments say. */
export interface IndexDb {
  readonly root: RootDatabase<unknown, string>;
  /** Record name -> entry (`entry.ts`). */
  readonly entries: Database<Buffer, string>;
  /** `segment:offset` -> record name. */
  readonly placed: Database<string, string>;
  /** Order, in 16 hex digits -> name of an inline record. */
  readonly orders: Database<string, string>;
  /** Segment's name -> its facts. */
  readonly segments: Database<SegmentFacts, string>;
  /** Names of records that were used since they came -> true. */
  readonly uses: Database<boolean, string>;
  /** `folder` -> facts; `evictor` -> who evicts, until when; scopes of epochs and rights under prefixes. */
  readonly facts: Database<unknown, string>;
  /** Records that were there when it was opened. */
  readonly restored: number;
}

const MARK = 'inferkv-disk.json';
const FORMAT = 1;
const INDEX = 'index';
export const SEGMENTS = 'segments';

/**
 * Opens the index of a folder, and makes both if they are not there. An index that cannot be read is set aside: what it knew is
 * lost, and a cache may lose it.
 *
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for a folder that holds something else, `ERR_INFERKV_STORE_FAILED` where it cannot be used
 */
export function openIndex(folder: string, epochBase: number): IndexDb {
  claimFolder(folder);
  try {
    return openDatabases(folder, epochBase);
  } catch (error) {
    if (
      !/MDB_(CORRUPTED|INVALID|VERSION_MISMATCH|PAGE_NOTFOUND|PANIC)|not an LMDB file|Invalid argument/i.test(
        messageOf(error),
      )
    ) {
      throw failed(folder, error);
    }
    process.emitWarning(
      `The index of the cache in ${folder} could not be read (${messageOf(error)}); it begins anew.`,
      {
        code: 'INFERKV_DISK_INDEX_LOST',
      },
    );
    rmSync(join(folder, `${INDEX}.broken`), { recursive: true, force: true });
    renameSync(join(folder, INDEX), join(folder, `${INDEX}.broken`));
    return openDatabases(folder, epochBase);
  }
}

/** Bytes that the index takes on the disk. */
export function indexBytes(folder: string): number {
  try {
    return statSync(join(folder, INDEX, 'data.mdb')).size;
  } catch {
    return 0;
  }
}

function claimFolder(folder: string): void {
  try {
    mkdirSync(join(folder, SEGMENTS), { recursive: true });
    const mark = readMark(folder);
    if (mark === FORMAT) return;
    const others = readdirSync(folder).filter((name) => name !== SEGMENTS && name !== INDEX);
    if (mark === undefined && others.length === 0) {
      writeFileSync(join(folder, MARK), `${JSON.stringify({ format: FORMAT })}\n`);
      return;
    }
    throw new InferkvError(
      'ERR_INFERKV_CONFIG_INVALID',
      mark === undefined
        ? `The folder ${folder} holds other files (${others.slice(0, 3).join(', ')}); give the cache an empty folder.`
        : `The folder ${folder} is a cache in format ${mark}, and this version reads format ${FORMAT}; give it another folder, or empty this one.`,
      { key: folder },
    );
  } catch (error) {
    throw error instanceof InferkvError ? error : failed(folder, error);
  }
}

function readMark(folder: string): number | undefined {
  try {
    const { format } = JSON.parse(readFileSync(join(folder, MARK), 'utf8')) as { readonly format: number };
    return format;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function openDatabases(folder: string, epochBase: number): IndexDb {
  // Its native part is loaded when it is imported, and only who has a disk store needs it.
  const { open } = createRequire(import.meta.url)('lmdb') as typeof Lmdb;
  const root = open<unknown, string>(join(folder, INDEX), { maxDbs: 8, noSubdir: false, cache: false });
  // Readers that died pin what they read, and the file would grow.
  root.readerCheck();
  const entries = root.openDB<Buffer, string>('entries', { encoding: 'binary' });
  const facts = root.openDB<unknown, string>('facts', { encoding: 'json' });
  if (facts.get('base') === undefined) {
    facts.transactionSync(() => {
      if (facts.get('base') === undefined) facts.putSync('base', epochBase);
    });
  }
  return {
    root,
    entries,
    facts,
    placed: root.openDB<string, string>('placed', { encoding: 'string' }),
    orders: root.openDB<string, string>('orders', { encoding: 'string' }),
    segments: root.openDB<SegmentFacts, string>('segments', { encoding: 'json' }),
    uses: root.openDB<boolean, string>('uses', { encoding: 'json' }),
    restored: (facts.get('folder') as FolderFacts | undefined)?.records ?? 0,
  };
}

function failed(folder: string, error: unknown): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_STORE_FAILED',
    `The folder ${folder} cannot be used: ${messageOf(error)}. Give a folder on a local disk that can be written to.`,
    { cause: error, key: folder },
  );
}
