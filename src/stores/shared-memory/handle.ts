import { InferkvError, messageOf } from '../../base/errors.ts';
import { AREA, FORMAT, HEADER, layoutOf, MAGIC, UNIT_BYTES, WORD_BYTES, type Layout } from './layout.ts';

/** What another thread needs to attach: goes to a worker as `workerData` or in a message, any number of times. */
export interface SharedMemoryHandle {
  readonly kind: 'inferkv/shared-memory';
  readonly control: SharedArrayBuffer;
  readonly segments: readonly SharedArrayBuffer[];
}

/** The memory of a store as one thread sees it. */
export interface Memory {
  readonly layout: Layout;
  /** All of control memory. */
  readonly words: Int32Array<SharedArrayBuffer>;
  /** The same, for the few 64-bit floats. */
  readonly doubles: Float64Array<SharedArrayBuffer>;
  /** The same, for costs. */
  readonly floats: Float32Array<SharedArrayBuffer>;
  readonly segments: readonly SharedArrayBuffer[];
}

/** Views of a store's memory. */
export function memoryOf({ control, segments }: Omit<SharedMemoryHandle, 'kind'>, layout: Layout): Memory {
  return {
    layout,
    words: new Int32Array(control),
    doubles: new Float64Array(control),
    floats: new Float32Array(control),
    segments,
  };
}

/** What a store's memory begins with. */
export interface Founding {
  readonly layout: Layout;
  readonly segmentCount: number;
  readonly segmentUnits: number;
  readonly storeId: number;
  readonly salts: readonly [number, number];
  readonly clockShift: number;
  /** The number of the owner's thread. */
  readonly owner: number;
}

/**
 * Memory of a new store. The system gives it page by page as it is written to, so all segments can be there from the
 * beginning, and no thread ever meets one it does not know.
 */
export function makeHandle({ layout, segmentCount, segmentUnits, storeId, ...founding }: Founding): SharedMemoryHandle {
  const control = reserve(layout.controlBytes);
  const segments = Array.from({ length: segmentCount }, () => reserve(segmentUnits * UNIT_BYTES));
  const words = new Int32Array(control);
  words[HEADER.magic] = MAGIC;
  words[HEADER.format] = FORMAT;
  words[HEADER.storeId] = storeId;
  words[HEADER.maxEntries] = layout.maxEntries;
  words[HEADER.maxThreads] = layout.maxThreads;
  words[HEADER.segmentCount] = segmentCount;
  words[HEADER.segmentUnits] = segmentUnits;
  [words[HEADER.saltA], words[HEADER.saltB]] = founding.salts;
  new Float64Array(control)[HEADER.clockShift >> 1] = founding.clockShift;
  words[layout.areasAt + AREA.state] = founding.owner + 1;
  // In the first unit of each, so that parts of two stores cannot be mixed up.
  for (const [number, segment] of segments.entries()) new Int32Array(segment, 0, 3).set([MAGIC, storeId, number]);
  return { kind: 'inferkv/shared-memory', control, segments };
}

/**
 * The memory behind a handle, checked as far as it can be.
 *
 * @throws InferkvError `ERR_INFERKV_HANDLE_INVALID` for anything that is not a store's handle as this process made it
 */
export function openHandle(handle: unknown): Memory {
  const { kind, control, segments } = (typeof handle === 'object' && handle !== null ? handle : {}) as {
    readonly [Field in keyof SharedMemoryHandle]?: unknown;
  };
  if (kind !== 'inferkv/shared-memory') throw invalid('it is not what handle() of a shared memory store gives');
  if (!(control instanceof SharedArrayBuffer) || !Array.isArray(segments)) {
    throw invalid('its memory is missing; only threads of the process that made the store can attach to it');
  }
  if (control.byteLength < HEADER.words * WORD_BYTES) throw invalid('its control memory is cut off');
  const words = new Int32Array(control, 0, HEADER.words);
  const field = (at: number): number => words[at] ?? 0;
  if (field(HEADER.magic) !== MAGIC) throw invalid('its control memory is not that of a store');
  if (field(HEADER.format) !== FORMAT) {
    throw invalid(`its format is ${field(HEADER.format)} and this version of inferkv reads ${FORMAT}`);
  }
  const layout = layoutOf({ maxEntries: field(HEADER.maxEntries), maxThreads: field(HEADER.maxThreads) });
  if (control.byteLength !== layout.controlBytes) throw invalid('its control memory has another size than it says');
  if (segments.length !== field(HEADER.segmentCount)) throw invalid('segments are missing');
  for (const [number, segment] of segments.entries()) {
    if (!isSegment(segment, field(HEADER.storeId), number, field(HEADER.segmentUnits))) {
      throw invalid(`segment ${number} belongs to another store`);
    }
  }
  return memoryOf({ control, segments: segments as SharedArrayBuffer[] }, layout);
}

function isSegment(segment: unknown, storeId: number, number: number, units: number): boolean {
  if (!(segment instanceof SharedArrayBuffer) || segment.byteLength !== units * UNIT_BYTES) return false;
  const [magic, id, at] = new Int32Array(segment, 0, 3);
  return magic === MAGIC && id === storeId && at === number;
}

function invalid(why: string): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_HANDLE_INVALID',
    `This handle of a shared memory store cannot be used: ${why}. Pass what handle() gives to the worker as it is.`,
  );
}

function reserve(bytes: number): SharedArrayBuffer {
  try {
    return new SharedArrayBuffer(bytes);
  } catch (error) {
    throw new InferkvError(
      'ERR_INFERKV_NO_ROOM',
      `The system gave no ${bytes} bytes of address space for shared memory (${messageOf(error)}); lower the budget, or the limit on address space.`,
      { cause: error },
    );
  }
}
