import { InferkvError } from '../../base/errors.ts';
import type { Entries } from './entries.ts';
import { entryUnits, metadataAt } from './layout.ts';
import { doFit } from './lengths.ts';
import type { SharedEntryFacts } from './thread-slabs.ts';

/** What a commit says of the value that was written. */
export interface WrittenValue {
  readonly digest: Uint8Array;
  readonly costMs: number;
  readonly ttlMs?: number | undefined;
  readonly lengthBytes: number;
  readonly metadataBytes: number;
}

/** Memory of the arena that the owner has set aside for a value, until it is committed or abandoned. */
export class OwnerSlab implements Disposable {
  /** As many bytes as were reserved; they hold whatever lay there before. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  readonly #entries: Entries;
  readonly #block: number;
  readonly #insert: (written: WrittenValue) => boolean;
  #open = true;

  /** @param insert takes over the block, with what is written to it */
  constructor(entries: Entries, block: number, lengthBytes: number, insert: (written: WrittenValue) => boolean) {
    this.#entries = entries;
    this.#block = block;
    this.#insert = insert;
    this.bytes = entries.bytesOf(block, lengthBytes);
  }

  /** Whether a value and its metadata find room here. */
  fits(lengthBytes: number, metadataBytes: number): boolean {
    if (!this.#open || lengthBytes > this.bytes.length) return false;
    return doFit(lengthBytes, metadataBytes, this.#entries.allocator.units(this.#block));
  }

  /**
   * Makes what was written an entry; what it does not need is free again. `false` if it could not be kept.
   *
   * @throws InferkvError `ERR_INFERKV_INPUT_INVALID` if it does not fit, or was committed or abandoned before
   */
  commit(digest: Uint8Array, facts: SharedEntryFacts, lengthBytes: number = this.bytes.length): boolean {
    const { metadata = new Uint8Array(0), costMs, ttlMs } = facts;
    if (!this.fits(lengthBytes, metadata.length)) {
      throw new InferkvError(
        'ERR_INFERKV_INPUT_INVALID',
        `The value (${lengthBytes} bytes) and its metadata (${metadata.length}) do not fit in the slab, or it has ended; reserve another one.`,
      );
    }
    this.#open = false;
    const { allocator } = this.#entries;
    const { buffer, byteOffset } = this.bytes;
    new Uint8Array(buffer).set(metadata, byteOffset + metadataAt(lengthBytes));
    const units = entryUnits(lengthBytes, metadata.length);
    if (units < allocator.units(this.#block)) allocator.free(allocator.split(this.#block, units));
    return this.#insert({ digest, costMs, ttlMs, lengthBytes, metadataBytes: metadata.length });
  }

  /** Gives the memory back unused; does nothing after a commit. */
  abandon(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#entries.allocator.free(this.#block);
  }

  [Symbol.dispose](): void {
    this.abandon();
  }
}
