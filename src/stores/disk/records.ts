import { decodeEntry, encodeInline, encodePlaced, type DiskEntry, type Place } from './entry.ts';
import type { FolderFacts, IndexDb, SegmentFacts } from './index-db.ts';

const NOTHING: FolderFacts = { inlineBytes: 0, segmentBytes: 0, records: 0, order: 0, evictions: 0 };

/**
 * The index of a folder, and the sums that belong to it. What changes anything is called inside of a transaction, so that entries,
 * places and sums agree for every process at every moment.
 */
export class DiskRecords {
  readonly #db: IndexDb;

  constructor(db: IndexDb) {
    this.#db = db;
  }

  facts(): FolderFacts {
    return { ...NOTHING, ...(this.#db.facts.get('folder') as FolderFacts | undefined) };
  }

  find(name: string): DiskEntry | undefined {
    const bytes = this.#db.entries.getBinary(name);
    return bytes === undefined ? undefined : decodeEntry(bytes);
  }

  /** Puts a small record in. */
  putInline(name: string, parts: readonly Uint8Array[], lengthBytes: number, expiresAtMs: number, token: number): void {
    this.remove(name);
    const facts = this.facts();
    facts.order++;
    facts.inlineBytes += lengthBytes + name.length;
    facts.records++;
    this.#db.entries.putSync(name, encodeInline(parts, lengthBytes, { expiresAtMs, token, order: facts.order }));
    this.#db.orders.putSync(orderKey(facts.order), name);
    this.#save(facts);
  }

  /** Puts a record in that lies in a segment; `false` if that was taken away meanwhile. */
  putPlaced(name: string, place: Place, expiresAtMs: number, token: number): boolean {
    if (this.#db.segments.get(place.segment)?.isGone === true) return false;
    this.remove(name);
    const facts = this.facts();
    facts.records++;
    const segment = this.#segment(place.segment, facts);
    segment.liveBytes += place.lengthBytes;
    this.#grow(place.segment, segment, facts, place.offset + place.lengthBytes);
    this.#db.entries.putSync(name, encodePlaced(place, { expiresAtMs, token }));
    this.#db.placed.putSync(placeKey(place), name);
    this.#save(facts);
    return true;
  }

  /** Takes a record out; `false` if there was none. */
  remove(name: string): boolean {
    const entry = this.find(name);
    if (entry === undefined) return false;
    const facts = this.facts();
    facts.records--;
    if (entry.kind === 'inline') {
      facts.inlineBytes -= entry.record.length + name.length;
      this.#db.orders.removeSync(orderKey(entry.order));
    } else {
      this.#db.placed.removeSync(placeKey(entry.place));
      const segment = this.#db.segments.get(entry.place.segment);
      if (segment !== undefined) {
        segment.liveBytes -= entry.place.lengthBytes;
        this.#db.segments.putSync(entry.place.segment, segment);
      }
    }
    this.#db.entries.removeSync(name);
    this.#db.uses.removeSync(name);
    this.#save(facts);
    return true;
  }

  /** The segment that was begun first. */
  oldestSegment(): { readonly name: string; readonly facts: SegmentFacts } | undefined {
    let oldest: { readonly name: string; readonly facts: SegmentFacts } | undefined;
    for (const { key, value } of this.#db.segments.getRange()) {
      if (value.isGone === true) continue;
      if (oldest === undefined || value.order < oldest.facts.order) oldest = { name: key, facts: value };
    }
    return oldest;
  }

  segments(): ReadonlyMap<string, SegmentFacts> {
    return new Map([...this.#db.segments.getRange()].map(({ key, value }) => [key, value]));
  }

  /** Some records of a segment, with their places. */
  inSegment(segment: string, limit: number): readonly { readonly name: string; readonly key: string }[] {
    const range = this.#db.placed.getRange({ start: `${segment}:`, end: `${segment};`, limit });
    return [...range].map(({ key, value }) => ({ name: value, key }));
  }

  /** Forgets a place whose record lies elsewhere by now. */
  forgetPlace(key: string): void {
    this.#db.placed.removeSync(key);
  }

  /** A segment in which no record is left goes; `isMarked` has its writer find out. */
  forgetSegment(name: string, isMarked: boolean): void {
    const segment = this.#db.segments.get(name);
    if (segment !== undefined) {
      const facts = this.facts();
      facts.segmentBytes -= segment.bytes;
      this.#save(facts);
    }
    if (isMarked) this.#db.segments.putSync(name, { bytes: 0, liveBytes: 0, order: 0, isGone: true });
    else this.#db.segments.removeSync(name);
  }

  /** Names of inline records, those that came first at the beginning. */
  oldestInline(limit: number): readonly string[] {
    return [...this.#db.orders.getRange({ limit })].map(({ value }) => value);
  }

  countEvictions(count: number): void {
    const facts = this.facts();
    facts.evictions += count;
    this.#save(facts);
  }

  /** Notes how long a segment's file is. */
  correctSegment(name: string, bytes: number): void {
    const facts = this.facts();
    this.#grow(name, this.#segment(name, facts), facts, bytes);
    this.#save(facts);
  }

  #grow(name: string, segment: SegmentFacts, facts: FolderFacts, toBytes: number): void {
    if (toBytes > segment.bytes) {
      facts.segmentBytes += toBytes - segment.bytes;
      segment.bytes = toBytes;
    }
    this.#db.segments.putSync(name, segment);
  }

  #segment(name: string, facts: FolderFacts): SegmentFacts {
    return this.#db.segments.get(name) ?? { bytes: 0, liveBytes: 0, order: ++facts.order };
  }

  #save(facts: FolderFacts): void {
    this.#db.facts.putSync('folder', facts);
  }
}

function orderKey(order: number): string {
  return order.toString(16).padStart(14, '0');
}

function placeKey({ segment, offset }: Place): string {
  return `${segment}:${offset.toString(16).padStart(12, '0')}`;
}
