import { keyOf } from './journal-adoption.ts';
import { isLater, type JournalEntry, type Ordered } from './journal-frames.ts';

/** A file of a journal. */
export interface JournalFile {
  readonly path: string;
  /** Every frame in it begins with that. */
  readonly fileId: Uint8Array;
  /** Bytes that are good, as far as is known. */
  bytes: number;
  syncedBytes: number;
  /** Writes in it that are wanted. */
  live: number;
}

/** Where a write lies. */
export interface Place extends Ordered {
  readonly file: JournalFile;
  readonly at: number;
  readonly lengthBytes: number;
}

/** What identifies a write. */
export type Written = Pick<JournalEntry, 'target' | 'name' | 'sequence' | 'writer'>;

/** Where the last write of each name lies, as long as it is not done. */
export class LivePlaces {
  readonly #places = new Map<string, Place>();
  /** Bytes of the frames. */
  liveBytes = 0;

  get entries(): number {
    return this.#places.size;
  }

  /** Takes an entry into account that lies at a place. */
  apply(entry: JournalEntry, place: Place): void {
    const key = keyOf(entry);
    const old = this.#places.get(key);
    if (old !== undefined && isLater(old, entry)) return;
    if (entry.kind === 'void') return;
    if (old !== undefined) this.#count(old, -1);
    if (entry.kind === 'done') {
      this.#places.delete(key);
      return;
    }
    this.#places.set(key, place);
    this.#count(place, 1);
  }

  find(write: Written): Place | undefined {
    const place = this.#places.get(keyOf(write));
    return place?.sequence === write.sequence && place.writer === write.writer ? place : undefined;
  }

  /** Whether an entry is wanted, and lies there. */
  isAt(entry: JournalEntry, file: JournalFile, at: number): boolean {
    const place = this.find(entry);
    return place?.file === file && place.at === at;
  }

  #count({ file, lengthBytes }: Place, by: 1 | -1): void {
    file.live += by;
    this.liveBytes += by * lengthBytes;
  }
}
