import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import { ENTRY_BYTES, type Entry } from './entry.ts';
import type { SegmentRow } from './environment.ts';
import { isSegmentFile, segmentFile } from './folder.ts';
import type { Shelf } from './shelf.ts';
import { isAlive } from './writers.ts';
import type { Writer } from './writer.ts';

type Row = readonly [number, SegmentRow];

const LEASE_MS = 5000;
const POLL_MS = 5;
// Records taken out in one transaction: others wait no longer than for so many.
const BATCH = 400;
// Of all bytes in files that are full, those nobody has any more: beyond this share they go first.
const MAX_DEAD_SHARE = 0.25;
// More files than this are gathered into fewer, whatever is in them.
const MAX_FILES = 512;

/**
 * Makes room. In one folder one process does it at a time: the right is in the index, and passes on when its owner has died.
 *
 * The policy: segments stand in a queue in the order in which they were begun, and the first is reclaimed whole. If more
 * than half of its bytes were read since they were written it goes to the end of the queue as it is; else what was read is
 * written anew, and the rest is forgotten (a second chance, as in CLOCK; the unit of reclaiming is that of a log). Once a
 * quarter of all bytes is of records that were overwritten or deleted, the segment with most of them comes first, and what
 * is in use in it is kept.
 */
export class Evictor {
  readonly #shelf: Shelf;
  readonly #writer: () => Writer;
  #evictions = 0;
  #pass: Promise<boolean> | undefined;
  #packing: Promise<void> | undefined;

  constructor(shelf: Shelf, writer: () => Writer) {
    this.#shelf = shelf;
    this.#writer = writer;
  }

  /** Records that left to make room, by this one. */
  get evictions(): number {
    return this.#evictions;
  }

  /** Room for a new segment; `false` if all there is belongs to segments that are being written. */
  makeRoom(bytes: number): Promise<boolean> {
    this.#pass ??= this.#makeRoom(bytes).finally(() => {
      this.#pass = undefined;
    });
    return this.#pass;
  }

  /** Moves the oldest small records out of the index, if it is getting full, without anybody waiting for it. */
  relieveIndex(): void {
    if (this.#packing !== undefined || !this.#isIndexFull()) return;
    this.#packing = this.#relieveIndex()
      // What could not be done now is tried again with the next record.
      .catch(() => undefined)
      .finally(() => {
        this.#packing = undefined;
      });
  }

  /** Settles when nothing is under way any more. */
  async idle(): Promise<void> {
    await this.#packing;
    await this.#pass?.catch(() => undefined);
  }

  /** Takes what dead processes have left: their open segments are closed, their rows and files that nothing leads to removed. */
  async recover(): Promise<void> {
    const { env, files, wallClock } = this.#shelf;
    const nowMs = wallClock();
    const names = (await files.list(env.folder)).filter(isSegmentFile);
    const rows = this.#rows();
    // The list was made before: a file in it that the index does not know now has been given up.
    const known = new Set(rows.map(([id, { nonce }]) => segmentFile(id, nonce)));
    for (const name of names) if (!known.has(name)) await files.remove(join(env.folder, name));
    const dead = rows.filter(([, { owner }]) => owner !== '' && !isAlive(env.tables, owner, nowMs));
    for (const [id, { owner, isFile, nonce }] of dead) {
      const length = isFile ? await files.lengthOf(join(env.folder, segmentFile(id, nonce))) : 0;
      await this.#shelf.change((draft) => draft.seal(id, owner, length ?? 0));
    }
    const gone = [...env.tables.writers.getKeys()].filter((writer) => !isAlive(env.tables, writer, nowMs));
    if (gone.length === 0) return;
    await this.#shelf.change(({ tables }) => {
      for (const writer of gone) tables.writers.removeSync(writer);
    });
  }

  async #makeRoom(bytes: number): Promise<boolean> {
    const { plan } = this.#shelf;
    if (!(await this.#hold('make-room'))) {
      await pause(POLL_MS);
      return true;
    }
    try {
      await this.#shelf.writeMarks();
      await this.recover();
      for (;;) {
        const rows = this.#rows().filter(([, { isFile }]) => isFile);
        const used = rows.reduce((sum, [, { charge }]) => sum + charge, 0);
        if (used + bytes <= plan.fileBytes - plan.segmentBytes && rows.length <= MAX_FILES) return true;
        const victim = victimOf(rows);
        if (victim === undefined) return used + bytes <= plan.fileBytes - plan.segmentBytes;
        await this.#reclaim(victim.row, victim.keeps);
        await this.#hold('make-room');
      }
    } finally {
      await this.#letGo('make-room');
    }
  }

  #isIndexFull(): boolean {
    const { env, plan } = this.#shelf;
    return !env.isClosed && env.usedBytes() + 2 * plan.generationBytes > plan.indexBytes / 2;
  }

  async #relieveIndex(): Promise<void> {
    const { env, plan } = this.#shelf;
    if (!(await this.#hold('relieve-index'))) return;
    try {
      await this.recover();
      while (this.#isIndexFull()) {
        const full = this.#rows()
          .filter(([, { owner }]) => owner === '')
          .toSorted(byOrder);
        const generations = full.filter(([, { isFile }]) => !isFile);
        const inline = generations.reduce((sum, [, { live }]) => sum + live, 0);
        const [generation] = generations;
        // Where the index is full of what leads to files, moving things there gains nothing.
        const isCrowded = env.usedBytes() - 2 * inline > plan.indexBytes / 4;
        const victim = isCrowded ? full[0] : generation;
        if (victim === undefined) return;
        await this.#reclaim(victim, isCrowded ? 'none' : 'all');
        await this.#hold('relieve-index');
      }
    } finally {
      await this.#letGo('relieve-index');
    }
  }

  /** Reclaims a segment, keeping what was read since it was written, or all, or nothing. */
  async #reclaim([id, row]: Row, keeps: 'touched' | 'all' | 'none'): Promise<void> {
    const { tables } = this.#shelf.env;
    let kept = keeps === 'none' ? [] : this.#placesOf(id);
    if (keeps === 'touched') {
      kept = kept.filter(([, { offset }]) => tables.touched.doesExist([id, offset]));
      const bytes = kept.reduce((sum, [, { length }]) => sum + length, 0);
      if (bytes > row.live / 2) {
        await this.#shelf.change((draft) => draft.requeue(id));
        return;
      }
    }
    const lane = row.isFile ? 'moved' : 'new';
    for (const [name, entry] of kept) {
      // No room even for moving: it goes with the rest.
      if ((await this.#move(name, entry, lane)) === 'full') break;
    }
    for (;;) {
      const { dropped, isGone } = await this.#shelf.change((draft) => draft.dropMembers(id, BATCH));
      this.#evictions += dropped;
      if (isGone) return;
    }
  }

  async #move(name: string, entry: Entry, lane: 'new' | 'moved'): Promise<string> {
    const found = this.#shelf.find(name);
    if (found === undefined || found === 'entry') return 'moved-on';
    if (found.entry.segment !== entry.segment || found.entry.offset !== entry.offset) return 'moved-on';
    const memory = Buffer.allocUnsafeSlow(entry.length);
    if (entry.isInline) found.bytes.copy(memory, 0, ENTRY_BYTES, ENTRY_BYTES + entry.length);
    else if ((await this.#shelf.read(name, entry, memory)) !== undefined) return 'moved-on';
    const { length, expiresAtMs, token } = entry;
    return this.#writer().putFile({ name, parts: [memory], length, expiresAtMs, token, fence: 0, from: entry }, lane);
  }

  /** What is in use of a segment. */
  #placesOf(id: number): (readonly [string, Entry])[] {
    const names = [...this.#shelf.env.tables.members.getRange({ start: [id, -1], end: [id + 1, -1] })];
    return names.flatMap(({ key, value }) => {
      const found = this.#shelf.find(value);
      if (found === undefined || found === 'entry') return [];
      const { entry } = found;
      return entry.segment === id && entry.offset === key[1] ? [[value, entry] as const] : [];
    });
  }

  #rows(): Row[] {
    return Array.from(this.#shelf.env.tables.segments.getRange(), ({ key, value }) => [key, value] as const);
  }

  #hold(what: string): Promise<boolean> {
    return this.#shelf.change((draft) => draft.hold(`\u0000${what}`, this.#shelf.owner, LEASE_MS));
  }

  async #letGo(what: string): Promise<void> {
    await this.#shelf.change((draft) => draft.letGo(`\u0000${what}`, this.#shelf.owner));
  }
}

function byOrder([, a]: Row, [, b]: Row): number {
  return a.order - b.order;
}

/** Which segment is reclaimed next, and what of it is kept. */
function victimOf(rows: readonly Row[]): { readonly row: Row; readonly keeps: 'touched' | 'all' } | undefined {
  const full = rows.filter(([, { owner }]) => owner === '').toSorted(byOrder);
  const total = full.reduce((sum, [, { charge }]) => sum + charge, 0);
  const dead = full.reduce((sum, [, row]) => sum + deadIn(row), 0);
  const [most] = full.toSorted(([, a], [, b]) => deadIn(b) - deadIn(a));
  // Moving more than half of it would gain too little for the work.
  if (most !== undefined && dead > MAX_DEAD_SHARE * total && deadIn(most[1]) * 2 >= most[1].charge) {
    return { row: most, keeps: 'all' };
  }
  const [smallest] = full.length > MAX_FILES ? full.toSorted(([, a], [, b]) => a.charge - b.charge) : [];
  if (smallest !== undefined) return { row: smallest, keeps: 'all' };
  const [oldest] = full;
  return oldest === undefined ? undefined : { row: oldest, keeps: 'touched' };
}

function deadIn({ charge, live }: SegmentRow): number {
  return Math.max(0, charge - live);
}
