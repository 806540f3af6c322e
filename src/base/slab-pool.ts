const MIN_SLAB_BYTES = 4096;
const MAX_RETAINED_BYTES = 64 * 1024 * 1024;

/**
 * Memory that is used again and again, in sizes of powers of two: fresh memory costs a page fault every 4 KiB. Whoever
 * gives a slab back must be its only user.
 */
export class SlabPool<Slab extends ArrayBufferLike> {
  readonly #make: (bytes: number) => Slab;
  readonly #bySize = new Map<number, Slab[]>();
  readonly #maxRetainedBytes: number;
  #retainedBytes = 0;

  constructor(make: (bytes: number) => Slab, maxRetainedBytes: number = MAX_RETAINED_BYTES) {
    this.#make = make;
    this.#maxRetainedBytes = maxRetainedBytes;
  }

  /** Bytes kept for use again. */
  get retainedBytes(): number {
    return this.#retainedBytes;
  }

  /** The size of the slab that `take` gives for so many bytes. */
  slabBytes(bytes: number): number {
    return Math.max(MIN_SLAB_BYTES, 2 ** Math.ceil(Math.log2(bytes)));
  }

  /** A slab of at least that size, whose content is whatever it was used for before. */
  take(bytes: number): Slab {
    const size = this.slabBytes(bytes);
    const slab = this.#bySize.get(size)?.pop();
    if (slab === undefined) return this.#make(size);
    this.#retainedBytes -= size;
    return slab;
  }

  give(slab: Slab): void {
    if (this.#retainedBytes + slab.byteLength > this.#maxRetainedBytes) return;
    this.#retainedBytes += slab.byteLength;
    const same = this.#bySize.get(slab.byteLength);
    if (same === undefined) this.#bySize.set(slab.byteLength, [slab]);
    else same.push(slab);
  }
}
