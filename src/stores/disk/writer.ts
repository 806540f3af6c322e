import { join } from 'node:path';

import type { PutOutcome } from '../store.ts';
import { inlineCost, type Draft, type EntryOutcome } from './draft.ts';
import { ENTRY_BYTES, FRAME_BYTES, frameOf, type Entry } from './entry.ts';
import { newNonce, segmentFile } from './folder.ts';
import type { Shelf } from './shelf.ts';

/** A record to be written. */
export interface Writing {
  readonly name: string;
  readonly parts: readonly Uint8Array[];
  readonly length: number;
  readonly expiresAtMs: number;
  readonly token: number;
  /** The token that what lies there must not exceed; 0 for none. */
  readonly fence: number;
  /** Where it lies now, if it is only moved. */
  readonly from?: Entry | undefined;
  /** Once it has ended, nothing is made visible any more. */
  readonly signal?: AbortSignal | undefined;
}

interface OpenSegment {
  readonly id: number;
  readonly fd: number;
  readonly capacity: number;
  end: number;
  pending: number;
  isFull: boolean;
}

interface Generation {
  readonly id: number;
  /** Tells it from a segment that got its number after the change that began it had failed. */
  readonly nonce: string;
  filled: number;
  records: number;
}

interface Place {
  readonly segment: OpenSegment;
  readonly offset: number;
}

interface Lane {
  current: OpenSegment | undefined;
  /** Whether there will be one. */
  opening: Promise<boolean> | undefined;
}

/** Makes room for a segment of that many bytes; `false` if there is none to be made. */
export type RoomMaker = (bytes: number) => Promise<boolean>;

const ATTEMPTS = 3;
const PATIENCE_MS = 5000;

/** Writes records into the segments of one store object; nobody else writes into those. */
export class Writer {
  readonly #shelf: Shelf;
  readonly #makeRoom: RoomMaker;
  readonly #lanes: Readonly<Record<'new' | 'moved', Lane>> = {
    new: { current: undefined, opening: undefined },
    moved: { current: undefined, opening: undefined },
  };
  readonly #open = new Set<OpenSegment>();
  /** Segments that are full, and their lengths, until the index says so. */
  readonly #unsealed = new Map<number, number>();
  #generation: Generation | undefined;

  constructor(shelf: Shelf, makeRoom: RoomMaker) {
    this.#shelf = shelf;
    this.#makeRoom = makeRoom;
  }

  /** Puts a small record into the index; `no-room` where that has taken its share. */
  async putInline(writing: Writing): Promise<EntryOutcome | 'no-room'> {
    const { name, parts, length, expiresAtMs, token, fence, signal } = writing;
    // Copied at once: the parts are the caller's again as soon as the signal ends.
    const bytes = Buffer.allocUnsafe(ENTRY_BYTES + length);
    bytes.fill(0, 0, ENTRY_BYTES);
    let at = ENTRY_BYTES;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    const { owner } = this.#shelf;
    return this.#shelf.change((draft) => {
      if (signal?.aborted === true) return 'lost';
      const segment = this.#generationFor(draft, inlineCost(name, length));
      if (segment === undefined) return 'no-room';
      const offset = segment.records++;
      segment.filled += inlineCost(name, length);
      const entry = { isInline: true, segment: segment.id, offset, length, expiresAtMs, token };
      return draft.putEntry({ ...entry, name, owner, bytes, fence });
    });
  }

  /** Writes a record into a segment file, then into the index. */
  async putFile(writing: Writing, laneName: 'new' | 'moved' = 'new'): Promise<PutOutcome | 'moved-on'> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const place = await this.#placeFor(laneName, FRAME_BYTES + writing.length);
      if (place === undefined) return 'full';
      const { segment, offset } = place;
      try {
        const outcome = await this.#write(segment, offset, writing);
        if (outcome !== 'lost') return outcome;
        // Another process took us for dead and closed the segment, or the caller has gone.
        segment.isFull = true;
        if (writing.signal?.aborted === true) return 'full';
      } catch (error) {
        segment.isFull = true;
        throw error;
      } finally {
        segment.pending--;
        this.#sealIfDone(segment);
      }
    }
    return 'full';
  }

  /** Ends all segments, so that others may reclaim them. */
  async close(): Promise<void> {
    for (const segment of this.#open) segment.isFull = true;
    await Promise.all([...this.#open].map((segment) => this.#seal(segment)));
    await this.tidy();
    const { owner } = this.#shelf;
    await this.#shelf.change((draft) => {
      const { id, nonce } = this.#generation ?? { id: 0, nonce: '' };
      if (draft.tables.segments.get(id)?.nonce === nonce) draft.seal(id, owner, 0);
    });
  }

  /** Writes down which segments are full. */
  async tidy(): Promise<void> {
    const done = [...this.#unsealed];
    if (done.length === 0) return;
    await this.#shelf.change((draft) => {
      for (const [id, length] of done) draft.seal(id, this.#shelf.owner, length);
    });
    for (const [id] of done) this.#unsealed.delete(id);
  }

  /** Closes the files, where the index is lost. */
  async abandon(): Promise<void> {
    for (const segment of this.#open) await this.#shelf.files.close(segment.fd).catch(() => undefined);
    this.#open.clear();
  }

  async #write(segment: OpenSegment, offset: number, writing: Writing): Promise<EntryOutcome> {
    const { files, owner, plan } = this.#shelf;
    const { name, parts, length, expiresAtMs, token, fence, from, signal } = writing;
    await files.write(
      segment.fd,
      [frameOf(name, segment.id, length), ...parts.filter((each) => each.length > 0)],
      offset,
    );
    if (plan.isDurable) await files.sync(segment.fd);
    const bytes = Buffer.alloc(ENTRY_BYTES);
    return this.#shelf.change((draft) => {
      if (signal?.aborted === true) return 'lost';
      const entry = { isInline: false, segment: segment.id, offset, length, expiresAtMs, token };
      return draft.putEntry({ ...entry, name, owner, bytes, fence, from });
    });
  }

  #generationFor(draft: Draft, cost: number): Generation | undefined {
    const { plan, env, owner } = this.#shelf;
    const current = this.#generation;
    const row = current === undefined ? undefined : draft.tables.segments.get(current.id);
    const isOurs = current !== undefined && row?.owner === owner && row.nonce === current.nonce;
    if (isOurs && current.filled + cost <= plan.generationBytes) return current;
    if (isOurs) draft.seal(current.id, owner, 0);
    this.#generation = undefined;
    // Half of it, so that there are always pages in a row to be had.
    if (env.usedBytes() + plan.generationBytes > plan.indexBytes / 2) return undefined;
    const nonce = newNonce();
    const id = draft.openSegment({ isFile: false, owner, nonce, charge: 0 });
    this.#generation = { id, nonce, filled: 0, records: 0 };
    return this.#generation;
  }

  async #placeFor(laneName: 'new' | 'moved', bytes: number): Promise<Place | undefined> {
    const { segmentBytes } = this.#shelf.plan;
    const lane = this.#lanes[laneName];
    // A large one has a file of its own, and leaves the one that is being filled as it is.
    if (bytes > segmentBytes / 2) {
      const own = await this.#openSegment(laneName, bytes, bytes);
      if (own === undefined) return undefined;
      own.isFull = true;
      return take(own, bytes);
    }
    for (;;) {
      const { current } = lane;
      if (current !== undefined && !current.isFull && current.end + bytes <= current.capacity)
        return take(current, bytes);
      if (lane.opening === undefined) {
        lane.current = undefined;
        if (current !== undefined) {
          current.isFull = true;
          this.#sealIfDone(current);
        }
        lane.opening = this.#openSegment(laneName, segmentBytes, bytes)
          .then((opened) => {
            lane.current = opened;
            return opened !== undefined;
          })
          .finally(() => {
            lane.opening = undefined;
          });
      }
      if (!(await lane.opening)) return undefined;
    }
  }

  async #openSegment(laneName: 'new' | 'moved', wished: number, needed: number): Promise<OpenSegment | undefined> {
    const { plan, owner } = this.#shelf;
    // What makes room has a segment in reserve, to move things into.
    const limit = laneName === 'new' ? plan.fileBytes - plan.segmentBytes : plan.fileBytes;
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const nonce = newNonce();
      const made = await this.#shelf.change((draft) => {
        const used = draft.fileBytes();
        // With many writers each gets less, so that those who have just begun do not take all.
        const writers = draft.rows().filter(([, row]) => row.isFile && row.owner !== '').length;
        const charge = Math.max(needed, Math.min(wished, Math.floor(plan.fileBytes / (4 * (writers + 1)))));
        if (used + charge > limit) return { id: undefined, charge };
        return { id: draft.openSegment({ isFile: true, owner, nonce, charge }), charge };
      });
      if (made.id !== undefined) {
        const fd = await this.#create(made.id, segmentFile(made.id, nonce));
        const segment = { id: made.id, fd, capacity: made.charge, end: 0, pending: 0, isFull: false };
        this.#open.add(segment);
        return segment;
      }
      if (laneName === 'moved' || performance.now() > deadline || !(await this.#makeRoom(made.charge)))
        return undefined;
    }
  }

  async #create(id: number, file: string): Promise<number> {
    const { files, env } = this.#shelf;
    try {
      return await files.open(join(env.folder, file), 'wx+');
    } catch (error) {
      this.#unsealed.set(id, 0);
      await this.tidy().catch(() => undefined);
      throw error;
    }
  }

  #sealIfDone(segment: OpenSegment): void {
    if (!segment.isFull || segment.pending > 0 || !this.#open.has(segment)) return;
    // What cannot be written down now is tried again by `tidy`.
    this.#seal(segment).catch(() => undefined);
  }

  async #seal(segment: OpenSegment): Promise<void> {
    this.#open.delete(segment);
    this.#unsealed.set(segment.id, segment.end);
    await this.#shelf.files.close(segment.fd).catch(() => undefined);
    await this.tidy();
  }
}

/** Takes the next bytes of a segment, at once: whoever comes next gets those behind. */
function take(segment: OpenSegment, bytes: number): Place {
  const offset = segment.end;
  segment.end += bytes;
  segment.pending++;
  return { segment, offset };
}
