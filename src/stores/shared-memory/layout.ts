/**
 * Where everything lies in the control memory of a store, in words of 32 bits. docs/shared-memory.md has the drawing and
 * says why reading it without a lock is safe.
 */

/** Entries lie at multiples of this, and take multiples of it. */
export const UNIT_BYTES = 64;
/** The first unit of a segment says whose it is. */
export const SEGMENT_HEADER_UNITS = 1;
/** One processor cache line: what different threads write is kept on different lines. */
const LINE_WORDS = 16;
export const WORD_BYTES = 4;

export const MAGIC = 0x696e_6b76;
export const FORMAT = 1;

/** The header: facts that never change, then three lines that do. */
export const HEADER = {
  magic: 0,
  format: 1,
  storeId: 2,
  maxEntries: 3,
  maxThreads: 4,
  segmentCount: 5,
  segmentUnits: 6,
  saltA: 7,
  saltB: 8,
  /** Two words: what to add to the process's own monotonic milliseconds to be on the owner's clock. */
  clockShift: 10,
  /** Counts moves of index cells; whoever missed looks whether it stood still. */
  indexVersion: 16,
  /** Entries of an earlier epoch are hidden. */
  epoch: 17,
  closed: 18,
  /** Counted up by threads that left a message for the owner. */
  doorbell: 32,
  words: 48,
} as const;

/** A cell of the index: two words. */
export const CELL = { slot: 0, tag: 1, words: 2 } as const;

/** A record: one cache line. Between `live` and its reuse only `state` changes. */
export const RECORD = {
  state: 0,
  /** Segment in the lower 16 bits, bytes of metadata in the upper 16. */
  place: 1,
  /** Offset in the segment, in units. */
  offset: 2,
  lengthBytes: 3,
  epoch: 4,
  /** A 32-bit float. */
  costMs: 5,
  /** Two words: a 64-bit float. */
  expiresAt: 6,
  key: 8,
  words: 16,
} as const;

export const KEY_WORDS = 8;
export const KEY_BYTES = 32;

/** The lower two bits of a record's state; the rest counts generations. */
export const PHASE = { free: 0, live: 1, retired: 2, mask: 3 } as const;
/** The lower bits of a state's generation, which is how often the record was used. */
export function generationOf(state: number): number {
  return (state >> 2) & 0xff;
}

/** The state of a record's next use. */
export function nextLiveState(state: number): number {
  return (((state >> 2) + 1) << 2) | PHASE.live | 0;
}

/** The same generation in another phase. */
export function inPhase(state: number, phase: number): number {
  return (state & ~PHASE.mask) | phase;
}

/** Leases that one thread may hold at a time. */
export const PINS_PER_THREAD = 256;
/** Hits of a thread that are remembered until the owner looks; later ones overwrite the oldest. */
export const HITS_PER_THREAD = 256;
/** Messages of a thread that may wait for the owner. */
export const MESSAGES_PER_THREAD = 64;
/** Regions that may wait for a thread to pick them up. */
export const MAIL_PER_THREAD = 4;

/** A thread's area: sixteen words a line, each line written by one side only. */
export const AREA = {
  /** 0 if nobody has it; the thread's number + 1; that, negative, once the thread has closed it. */
  state: 0,
  // The second line: written by the thread at each lookup.
  hits: 16,
  misses: 17,
  /** No pin at or above this is set. */
  pinTop: 18,
  /** Two words: a 64-bit float. */
  savedMs: 20,
  // The third: written by the thread with each message.
  messagesSent: 32,
  /** Counted up whenever the thread finds no place for more messages, before it looks once more. */
  stalls: 33,
  // The fourth: written by the owner.
  messagesRead: 48,
  /** Counted up with each region granted and each refusal. */
  grantTurn: 49,
  refusals: 50,
  mail: 64,
  pins: 128,
  hitRing: 384,
  messages: 640,
  words: 2688,
} as const;

/** A region on its way to a thread. `region` is its number, written last by the owner, and 0 once the thread took it. */
export const MAIL = { region: 0, segment: 1, offset: 2, units: 3, words: 16 } as const;

/** A message from a thread to the owner. */
export const MESSAGE = {
  kind: 0,
  region: 1,
  offset: 2,
  units: 3,
  lengthBytes: 4,
  metadataBytes: 5,
  costMs: 6,
  epoch: 7,
  /** Two words: a 64-bit float. */
  expiresAt: 8,
  key: 16,
  words: 32,
} as const;

/** What a message says: an entry is written; reserved bytes go back unused; so does the rest of a region; bytes are wanted. */
export const KIND = { commit: 1, abandon: 2, seal: 3, want: 4 } as const;

/** How large a store's control memory is made. */
export interface LayoutSize {
  readonly maxEntries: number;
  readonly maxThreads: number;
}

/** Where the parts of control memory begin, in words. */
export interface Layout extends LayoutSize {
  /** Cells of the index, a power of two. */
  readonly cells: number;
  readonly indexAt: number;
  readonly recordsAt: number;
  readonly areasAt: number;
  readonly controlBytes: number;
}

/** The index is never more than half full, so a probe ends after 2.5 cells on average (Knuth, TAOCP 3, 6.4). */
export function layoutOf({ maxEntries, maxThreads }: LayoutSize): Layout {
  const cells = 2 ** Math.ceil(Math.log2(2 * maxEntries));
  const indexAt = HEADER.words;
  const recordsAt = indexAt + Math.max(cells * CELL.words, LINE_WORDS);
  const areasAt = recordsAt + maxEntries * RECORD.words;
  const controlBytes = (areasAt + maxThreads * AREA.words) * WORD_BYTES;
  return { maxEntries, maxThreads, cells, indexAt, recordsAt, areasAt, controlBytes };
}

/** Bytes that a value and its metadata take: the metadata follows at the next multiple of eight. */
export function entryBytes(lengthBytes: number, metadataBytes: number): number {
  return metadataBytes === 0 ? lengthBytes : metadataAt(lengthBytes) + metadataBytes;
}

/** Where the metadata begins behind a value. */
export function metadataAt(lengthBytes: number): number {
  return Math.ceil(lengthBytes / 8) * 8;
}

/** Units that a value and its metadata take; even nothing takes one, so that every entry has a place. */
export function entryUnits(lengthBytes: number, metadataBytes: number): number {
  return Math.max(1, Math.ceil(entryBytes(lengthBytes, metadataBytes) / UNIT_BYTES));
}
