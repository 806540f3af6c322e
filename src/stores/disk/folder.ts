import { orAborted } from '../../base/cancellation.ts';
import type { WallClock } from '../../base/clock.ts';
import { makeOwnFolderName } from '../../base/process-folder.ts';
import type { EpochAuthority, GrantAuthority } from '../store.ts';
import { diskEpochs, diskGrants, type Transact } from './authorities.ts';
import { Evictor } from './evictor.ts';
import { openIndex } from './index-db.ts';
import { DiskRecords } from './records.ts';
import { Segments } from './segments.ts';

/** A folder that is in use. Stores of this process with the same folder share it. */
export interface OpenFolder {
  readonly records: DiskRecords;
  readonly segments: Segments;
  readonly evictor: Evictor;
  readonly epochs: EpochAuthority;
  readonly grants: GrantAuthority;
  readonly transact: Transact;
  /** Records that were there when it was opened. */
  readonly restored: number;
  /** A record was read: it is to stay longer than those that were not. */
  used(name: string): void;
  /** Settles when what was committed is on the disk itself. */
  synced(): Promise<void>;
  close(): Promise<void>;
}

interface Shared {
  readonly opened: OpenFolder;
  users: number;
  readonly end: () => Promise<void>;
}

const MIN_SEGMENT_BYTES = 2 ** 20;
const MAX_SEGMENT_BYTES = 64 * 2 ** 20;
const SEGMENTS_A_BUDGET = 32;
const NOTE_USES_MS = 1000;
const MAX_USES = 4096;

const folders = new Map<string, Shared>();

/** Opens a folder, or shares it with those of this process that have. */
export function openFolder(options: {
  readonly folder: string;
  readonly budgetBytes: number;
  readonly wallClock: WallClock;
}): OpenFolder {
  const { folder } = options;
  let shared = folders.get(folder);
  if (shared === undefined) {
    shared = open(options);
    folders.set(folder, shared);
  }
  shared.users++;
  const { opened, end } = shared;
  const close = async (): Promise<void> => {
    shared.users--;
    if (shared.users > 0) return;
    folders.delete(folder);
    await end();
  };
  return { ...opened, close };
}

function open({ folder, budgetBytes, wallClock }: Parameters<typeof openFolder>[0]): Shared {
  const db = openIndex(folder, Math.floor(wallClock()));
  const records = new DiskRecords(db);
  const segmentBytes = Math.min(
    MAX_SEGMENT_BYTES,
    Math.max(MIN_SEGMENT_BYTES, Math.floor(budgetBytes / SEGMENTS_A_BUDGET)),
  );
  const segments = new Segments(folder, segmentBytes);
  const transact: Transact = (work, options) => orAborted(db.root.transaction(work), options?.signal);
  const who = makeOwnFolderName();
  const evictor = new Evictor({ db, records, segments, transact, folder, who, budgetBytes, wallClock });
  const reconciling = evictor.reconcile().catch(() => undefined);
  const uses = new Set<string>();
  let noting: Promise<unknown> = Promise.resolve();
  const note = (): void => {
    if (uses.size === 0) return;
    const names = [...uses];
    uses.clear();
    noting = transact(() => {
      for (const name of names) if (db.entries.doesExist(name) && !db.uses.doesExist(name)) db.uses.putSync(name, true);
    }, undefined).catch(() => undefined);
  };
  const timer = setInterval(note, NOTE_USES_MS);
  timer.unref();
  const opened: OpenFolder = {
    records,
    segments,
    evictor,
    transact,
    epochs: diskEpochs(db, transact),
    grants: diskGrants(db, transact, wallClock),
    restored: db.restored,
    used: (name) => {
      if (uses.size < MAX_USES) uses.add(name);
    },
    synced: async () => void (await db.root.flushed),
    close: async () => undefined,
  };
  const end = async (): Promise<void> => {
    clearInterval(timer);
    note();
    await Promise.all([reconciling, noting]);
    await segments.close();
    await db.root.close();
  };
  return { opened, users: 0, end };
}
