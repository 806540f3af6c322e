import type { WallClock } from '../../base/clock.ts';
import { indexBytes, type IndexDb } from './index-db.ts';
import type { DiskRecords } from './records.ts';
import type { Segments } from './segments.ts';
import type { Transact } from './authorities.ts';

/** Who evicts, until when. */
interface Seat {
  readonly who: string;
  readonly until: number;
}

// The seat of one that died is free after so long.
const SEAT_MS = 3000;
const STEP = 256;
// Inline records may take a quarter: the index does not shrink, so that what it once took is gone for segments.
const INLINE_SHARE = 0.25;
// Room is made before it is needed, so that writers of other processes find some.
const LOW_WATER = 0.9;
// Records of the oldest segment that were used since they came are written again, as long as they are no more of it than this.
const REPRIEVE_SHARE = 0.5;

/**
 * Makes room in a folder: the oldest segment goes as a whole, after what was used of it has been written anew, at its end; of the
 * small records the oldest go. One process does it for all; if that dies, another takes its seat.
 */
export class Evictor {
  readonly #db: IndexDb;
  readonly #records: DiskRecords;
  readonly #segments: Segments;
  readonly #transact: Transact;
  readonly #folder: string;
  readonly #who: string;
  readonly #budgetBytes: number;
  readonly #wallClock: WallClock;
  #running: Promise<void> | undefined;

  constructor(parts: {
    readonly db: IndexDb;
    readonly records: DiskRecords;
    readonly segments: Segments;
    readonly transact: Transact;
    readonly folder: string;
    readonly who: string;
    readonly budgetBytes: number;
    readonly wallClock: WallClock;
  }) {
    this.#db = parts.db;
    this.#records = parts.records;
    this.#segments = parts.segments;
    this.#transact = parts.transact;
    this.#folder = parts.folder;
    this.#who = parts.who;
    this.#budgetBytes = parts.budgetBytes;
    this.#wallClock = parts.wallClock;
  }

  /** Bytes on the disk: segments, and the index as long as it has ever been. */
  usedBytes(): number {
    return this.#records.facts().segmentBytes + indexBytes(this.#folder);
  }

  /** Whether so many bytes more would be beyond the budget. */
  isFull(bytes: number, isInline: boolean): boolean {
    const { inlineBytes, segmentBytes } = this.#records.facts();
    if (isInline && inlineBytes + bytes > INLINE_SHARE * this.#budgetBytes) return true;
    return segmentBytes + indexBytes(this.#folder) + (isInline ? 0 : bytes) > this.#budgetBytes;
  }

  /** Makes room for so many bytes if this process has the seat, or gets it; several callers share a round. */
  async makeRoom(bytes: number): Promise<void> {
    this.#running ??= this.#round(bytes).finally(() => {
      this.#running = undefined;
    });
    await this.#running;
  }

  /** Puts the sums right after processes have died: files that nobody knows, and lengths that nobody has noted down. */
  async reconcile(): Promise<void> {
    if (!(await this.#takeSeat())) return;
    const onDisk = await this.#segments.list();
    const orphans = await this.#transact(() => {
      const known = this.#records.segments();
      for (const name of known.keys()) if (!this.#segments.isThere(name)) this.#lose(name);
      const abandoned = onDisk.filter(({ name, isAbandoned }) => isAbandoned || known.get(name)?.isGone === true);
      const left = abandoned.filter(({ name }) => this.#records.inSegment(name, 1).length > 0);
      for (const { name, bytes } of left) this.#records.correctSegment(name, bytes);
      return abandoned.filter((each) => !left.includes(each)).map(({ name }) => name);
    }, undefined);
    for (const name of orphans) await this.#segments.remove(name);
  }

  /** A segment is not there any more, and its records are not either. */
  #lose(segment: string): void {
    for (const { name, key } of this.#records.inSegment(segment, Number.MAX_SAFE_INTEGER)) {
      const entry = this.#records.find(name);
      if (entry?.kind === 'placed' && entry.place.segment === segment) this.#records.remove(name);
      else this.#records.forgetPlace(key);
    }
    this.#records.forgetSegment(segment, false);
  }

  async #round(bytes: number): Promise<void> {
    if (!(await this.#takeSeat())) return;
    const wanted = LOW_WATER * this.#budgetBytes - bytes;
    await this.#evictInline();
    // Each time round a segment goes, so this ends.
    for (let left = this.#records.segments().size; left > 0 && this.usedBytes() > wanted; left--) {
      const oldest = this.#records.oldestSegment();
      if (oldest === undefined) return;
      await this.#evictSegment(oldest.name, oldest.facts.bytes);
    }
  }

  /** Whether this process is the one that evicts now. */
  #takeSeat(): Promise<boolean> {
    return this.#transact(() => {
      const seat = this.#db.facts.get('evictor') as Seat | undefined;
      const now = this.#wallClock();
      // A clock that jumped back would leave the seat taken for ever.
      if (seat !== undefined && seat.who !== this.#who && seat.until > now && seat.until <= now + SEAT_MS) return false;
      this.#db.facts.putSync('evictor', { who: this.#who, until: now + SEAT_MS });
      return true;
    }, undefined);
  }

  async #evictInline(): Promise<void> {
    const limit = LOW_WATER * INLINE_SHARE * this.#budgetBytes;
    while (this.#records.facts().inlineBytes > limit) {
      await this.#transact(() => {
        const oldest = this.#records.oldestInline(STEP);
        let gone = 0;
        for (const name of oldest) {
          if (this.#records.facts().inlineBytes <= limit) break;
          const entry = this.#records.find(name);
          if (this.#db.uses.get(name) === true && entry?.kind === 'inline') {
            // Used since it came: it begins anew, and has to be used again.
            this.#db.uses.removeSync(name);
            this.#records.putInline(
              name,
              [Uint8Array.from(entry.record)],
              entry.record.length,
              entry.expiresAtMs,
              entry.token,
            );
            continue;
          }
          this.#records.remove(name);
          gone++;
        }
        this.#records.countEvictions(gone);
      }, undefined);
    }
  }

  async #evictSegment(segment: string, bytes: number): Promise<void> {
    if (this.#segments.isOwn(segment)) await this.#segments.turn();
    let reprievedBytes = 0;
    for (;;) {
      const some = this.#records.inSegment(segment, STEP);
      const kept: { name: string; bytes: Uint8Array }[] = [];
      for (const { name } of some) {
        const entry = this.#records.find(name);
        if (entry?.kind !== 'placed' || this.#db.uses.get(name) !== true) continue;
        if (reprievedBytes + entry.place.lengthBytes > REPRIEVE_SHARE * bytes) continue;
        const record = new Uint8Array(entry.place.lengthBytes);
        if (!(await this.#segments.read(entry.place, record))) continue;
        reprievedBytes += record.length;
        kept.push({ name, bytes: record });
      }
      if (await this.#evictRecords(segment, some, kept)) break;
    }
    await this.#segments.remove(segment);
  }

  /** Takes records of a segment out; those that are kept are written to the end of another one. Whether none was left. */
  async #evictRecords(
    segment: string,
    some: readonly { readonly name: string; readonly key: string }[],
    kept: readonly { readonly name: string; readonly bytes: Uint8Array }[],
  ): Promise<boolean> {
    const places = new Map<string, Awaited<ReturnType<Segments['append']>>>();
    for (const { name, bytes } of kept) places.set(name, await this.#segments.append([bytes], bytes.length, false));
    return this.#transact(() => {
      let gone = 0;
      for (const { name, key } of some) {
        const entry = this.#records.find(name);
        if (entry?.kind !== 'placed' || entry.place.segment !== segment) {
          this.#records.forgetPlace(key);
          continue;
        }
        const place = places.get(name);
        if (place !== undefined && this.#records.putPlaced(name, place, entry.expiresAtMs, entry.token)) continue;
        this.#records.remove(name);
        gone++;
      }
      this.#records.countEvictions(gone);
      // Another process may have put one in meanwhile.
      if (this.#records.inSegment(segment, 1).length > 0) return false;
      this.#records.forgetSegment(segment, !this.#segments.isOwn(segment));
      return true;
    }, undefined);
  }
}
