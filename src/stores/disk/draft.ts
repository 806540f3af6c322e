import { ENTRY_BYTES, isSamePlace, readEntry, writeEntry, type Entry } from './entry.ts';
import type { SegmentRow, Tables } from './environment.ts';
import { segmentFile } from './folder.ts';
import { isAlive } from './writers.ts';

/** A segment to be. */
export interface SegmentWish {
  readonly isFile: boolean;
  readonly owner: string;
  readonly nonce: string;
  readonly charge: number;
}

/** What is to be written in the index. */
export interface EntryDraft extends Entry {
  readonly name: string;
  /** Who writes; its segment must still be its own. */
  readonly owner: string;
  /** The token that what lies there must not exceed; 0 for none. */
  readonly fence: number;
  /** Room for the entry, and the record behind it if it lies in the index. */
  readonly bytes: Buffer;
  /** The place the record is moved from: if it is not there any more, it is not moved. */
  readonly from?: Entry | undefined;
}

/** `lost`: the segment is not the writer's any more; `moved-on`: what was to be moved is not there any more. */
export type EntryOutcome = 'stored' | 'superseded' | 'lost' | 'moved-on';

/** One change of the index, inside a transaction: what belongs together is done here, so that the sums are always right. */
export class Draft {
  readonly tables: Tables;
  /** Files that nothing leads to any more: to be removed once the change is there. */
  readonly doomed: string[] = [];
  /** Milliseconds since 1970. */
  readonly nowMs: number;

  constructor(tables: Tables, nowMs: number) {
    this.tables = tables;
    this.nowMs = nowMs;
  }

  /** What lies under a name, unless its time is over. */
  find(name: string): Entry | undefined {
    const bytes = this.tables.records.getBinaryFast(name);
    if (bytes === undefined) return undefined;
    const entry = readEntry(bytes, name);
    return entry === undefined || entry.expiresAtMs <= this.nowMs ? undefined : entry;
  }

  /** The next of a series of numbers, which begins at 1. */
  count(counter: string): number {
    const next = (this.tables.counters.get(counter) ?? 0) + 1;
    this.tables.counters.putSync(counter, next);
    return next;
  }

  /** Bytes that segment files take of the budget. */
  fileBytes(): number {
    return this.rows().reduce((sum, [, { isFile, charge }]) => sum + (isFile ? charge : 0), 0);
  }

  rows(): (readonly [number, SegmentRow])[] {
    return Array.from(this.tables.segments.getRange(), ({ key, value }) => [key, value] as const);
  }

  openSegment(wish: SegmentWish): number {
    const id = this.count('segment');
    this.tables.segments.putSync(id, { ...wish, order: id, live: 0, records: 0 });
    return id;
  }

  /** Ends a segment; one with nothing in it goes at once. */
  seal(id: number, owner: string, charge: number): void {
    const row = this.tables.segments.get(id);
    if (row === undefined || row.owner !== owner) return;
    if (row.records === 0) this.#dropRow(id, row);
    else this.tables.segments.putSync(id, { ...row, owner: '', charge });
  }

  /** Puts a segment at the end of the queue, as one just written. */
  requeue(id: number): void {
    const row = this.tables.segments.get(id);
    if (row === undefined) return;
    this.tables.segments.putSync(id, { ...row, order: this.count('segment') });
    for (const key of keysOf(this.tables.touched, id)) this.tables.touched.removeSync(key);
  }

  putEntry(draft: EntryDraft): EntryOutcome {
    const { name, segment, from, fence } = draft;
    const row = this.tables.segments.get(segment);
    if (row === undefined || row.owner !== draft.owner) return 'lost';
    const old = this.find(name);
    if (from !== undefined && !isSamePlace(old, from)) return 'moved-on';
    if (fence > 0 && old !== undefined && old.token > fence) return 'superseded';
    this.dropEntry(name);
    // Read again: what was there before may have lain in the same segment.
    const now = this.tables.segments.get(segment) ?? row;
    writeEntry(draft.bytes, name, draft);
    this.tables.records.putSync(name, draft.bytes);
    this.tables.members.putSync([segment, draft.offset], name);
    this.tables.segments.putSync(segment, { ...now, live: now.live + draft.length, records: now.records + 1 });
    return 'stored';
  }

  /** Takes a record out, whatever its state; with `at`, only if it lies there. */
  dropEntry(name: string, at?: { readonly segment: number; readonly offset: number }): boolean {
    const bytes = this.tables.records.getBinaryFast(name);
    if (bytes === undefined) return false;
    const entry = readEntry(bytes, name);
    if (at !== undefined && (entry?.segment !== at.segment || entry.offset !== at.offset)) return false;
    this.tables.records.removeSync(name);
    // Of an entry that is not whole nobody knows what it led to; it goes with its segment.
    if (entry !== undefined) this.#leave(entry);
    return true;
  }

  /** Takes an entry out that is not whole. */
  dropBroken(name: string): void {
    const bytes = this.tables.records.getBinaryFast(name);
    if (bytes !== undefined && readEntry(bytes, name) === undefined) this.tables.records.removeSync(name);
  }

  /** Takes out up to `limit` records of a segment, and the segment when none is left; gives how many were in use, and whether it is gone. */
  dropMembers(id: number, limit: number): { readonly dropped: number; readonly isGone: boolean } {
    const row = this.tables.segments.get(id);
    if (row === undefined) return { dropped: 0, isGone: true };
    const members = [...this.tables.members.getRange({ start: [id, -1], end: [id + 1, -1], limit })];
    let dropped = 0;
    for (const { key, value } of members) {
      const isLive = this.find(value) !== undefined;
      if (this.dropEntry(value, { segment: key[0], offset: key[1] }) && isLive) dropped++;
      this.tables.members.removeSync(key);
    }
    const left = this.tables.segments.get(id);
    if (members.length < limit && left !== undefined) this.#dropRow(id, left);
    return { dropped, isGone: members.length < limit };
  }

  /** The right to do something in the whole folder, for a time; whoever has it may ask again. */
  hold(what: string, owner: string, ttlMs: number): boolean {
    const held = this.tables.grants.get(what);
    if (held !== undefined && held.owner !== owner && this.isHeld(held)) return false;
    this.tables.grants.putSync(what, { owner, token: 0, untilMs: this.nowMs + ttlMs, ttlMs });
    return true;
  }

  letGo(what: string, owner: string): void {
    if (this.tables.grants.get(what)?.owner === owner) this.tables.grants.removeSync(what);
  }

  /** Whether a right is somebody's still: not after its time, not if the clock has been put back, not after its owner's end. */
  isHeld(held: { readonly owner: string; readonly untilMs: number; readonly ttlMs: number }): boolean {
    if (held.untilMs <= this.nowMs || held.untilMs - this.nowMs > held.ttlMs) return false;
    return isAlive(this.tables, held.owner, this.nowMs);
  }

  #leave(entry: Entry): void {
    const { segment, offset, length } = entry;
    this.tables.members.removeSync([segment, offset]);
    this.tables.touched.removeSync([segment, offset]);
    const row = this.tables.segments.get(segment);
    if (row === undefined) return;
    const left = { ...row, live: row.live - length, records: row.records - 1 };
    if (left.records <= 0 && left.owner === '') this.#dropRow(segment, left);
    else this.tables.segments.putSync(segment, left);
  }

  #dropRow(id: number, row: SegmentRow): void {
    this.tables.segments.removeSync(id);
    for (const table of [this.tables.members, this.tables.touched]) {
      for (const key of keysOf(table, id)) table.removeSync(key);
    }
    if (row.isFile) this.doomed.push(segmentFile(id, row.nonce));
  }
}

/** The places of a segment in a table: as a list, since the table is changed meanwhile. */
function keysOf(table: Tables['members'] | Tables['touched'], id: number): [number, number][] {
  return Array.from(table.getKeys({ start: [id, -1], end: [id + 1, -1] }));
}

/** Bytes that a small record takes in the index, about: pages are never quite full. */
export function inlineCost(name: string, length: number): number {
  const bytes = ENTRY_BYTES + length + 2 * name.length + 64;
  // What is longer than half a page has pages of its own.
  return bytes > 2000 ? Math.ceil((bytes + 24) / 4096) * 4096 : Math.ceil(bytes * 1.4);
}
