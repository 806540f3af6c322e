import { join } from 'node:path';

import type { WallClock } from '../../base/clock.ts';
import { Draft } from './draft.ts';
import { FRAME_BYTES, frameOf, readEntry, type Entry } from './entry.ts';
import type { Environment } from './environment.ts';
import { codeOf, type FileLayer } from './files.ts';
import { segmentFile } from './folder.ts';
import { Handles } from './handles.ts';
import type { DiskPlan } from './options.ts';

/** Why a record that the index tells of is not there. */
export type DiskFault =
  /** The index's own entry is not whole. */
  | 'entry'
  /** There is no file. */
  | 'missing'
  /** The file ends before the record does. */
  | 'cut'
  /** The file has something else in that place. */
  | 'foreign';

// Marks of what was read, until they are written down. Beyond it what is read is not spared from making room.
const MAX_MARKS = 20_000;

/** An open folder: the index and the files, for reading and for changing; what all parts of the store work on. */
export class Shelf {
  readonly env: Environment;
  readonly plan: DiskPlan;
  readonly files: FileLayer;
  readonly handles: Handles;
  readonly wallClock: WallClock;
  /** What this store object is called in the index. */
  readonly owner: string;
  readonly #fileNames = new Map<number, string>();
  #marks = new Map<string, readonly [number, number]>();

  constructor(env: Environment, plan: DiskPlan, files: FileLayer, wallClock: WallClock, owner: string) {
    this.env = env;
    this.plan = plan;
    this.files = files;
    this.wallClock = wallClock;
    this.owner = owner;
    this.handles = new Handles(files, env.folder, plan.openFiles);
  }

  /** Changes the index, then removes what nothing leads to any more. */
  async change<T>(run: (draft: Draft) => T): Promise<T> {
    let draft: Draft | undefined;
    const result = await this.env.change((tables) => {
      draft = new Draft(tables, this.wallClock());
      return run(draft);
    });
    for (const file of draft?.doomed ?? []) {
      this.handles.forget(file);
      // A file that cannot be removed now is found, and removed, when room is made.
      await this.files.remove(join(this.env.folder, file)).catch(() => undefined);
    }
    return result;
  }

  /** What the index has under a name: bytes that are good until the next read. */
  find(name: string): { readonly entry: Entry; readonly bytes: Buffer } | 'entry' | undefined {
    const bytes = this.env.tables.records.getBinaryFast(name);
    if (bytes === undefined) return undefined;
    const entry = readEntry(bytes, name);
    if (entry === undefined) return 'entry';
    return entry.expiresAtMs <= this.wallClock() ? undefined : { entry, bytes };
  }

  /** Reads a record from its file into memory of its length. */
  async read(name: string, entry: Entry, memory: Uint8Array): Promise<DiskFault | undefined> {
    const file = this.fileOf(entry.segment);
    if (file === undefined) return 'missing';
    const frame = Buffer.allocUnsafe(FRAME_BYTES);
    try {
      const count = await this.handles.use(file, (fd) => this.files.read(fd, [frame, memory], entry.offset));
      if (count < FRAME_BYTES + memory.length) return 'cut';
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return 'missing';
      throw error;
    }
    return frame.equals(frameOf(name, entry.segment, entry.length)) ? undefined : 'foreign';
  }

  /** Notes that a record was read: it may stay when its segment is reclaimed. */
  mark({ segment, offset }: Entry): void {
    if (this.#marks.size < MAX_MARKS) this.#marks.set(`${segment}:${offset}`, [segment, offset]);
  }

  /** Writes the marks down, where those who make room find them. */
  async writeMarks(): Promise<void> {
    if (this.#marks.size === 0) return;
    const marks = this.#marks;
    this.#marks = new Map();
    await this.change(({ tables }) => {
      for (const [segment, offset] of marks.values()) {
        if (tables.members.doesExist([segment, offset])) tables.touched.putSync([segment, offset], 1);
      }
    });
  }

  fileOf(segment: number): string | undefined {
    let file = this.#fileNames.get(segment);
    if (file === undefined) {
      const row = this.env.tables.segments.get(segment);
      if (row === undefined) return undefined;
      file = segmentFile(segment, row.nonce);
      this.#fileNames.set(segment, file);
    }
    return file;
  }

  /** Lets go of files that others have reclaimed: as long as they are open they take room. */
  prune(): void {
    if (this.#fileNames.size === 0) return;
    const files = new Set<string>();
    for (const { key, value } of this.env.tables.segments.getRange()) files.add(segmentFile(key, value.nonce));
    for (const [segment, file] of this.#fileNames) if (!files.has(file)) this.#fileNames.delete(segment);
    this.handles.prune((file) => files.has(file));
  }
}
