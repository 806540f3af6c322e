import { isShared, isStrings, numericView, type Tensor, type Tensors } from '../base/tensor.ts';

const MIN_SLAB_BYTES = 4096;
const MAX_RETAINED_BYTES = 64 * 1024 * 1024;
const ALIGNMENT = 64;

/**
 * Shared memory for tensors on their way to a worker thread, used again and again in sizes of powers of two, as fresh
 * shared memory costs a page fault every 4 KiB.
 */
export class SlabPool {
  readonly #bySize = new Map<number, SharedArrayBuffer[]>();
  readonly #maxRetainedBytes: number;
  #retainedBytes = 0;

  constructor(maxRetainedBytes: number = MAX_RETAINED_BYTES) {
    this.#maxRetainedBytes = maxRetainedBytes;
  }

  /** Bytes kept for use again. */
  get retainedBytes(): number {
    return this.#retainedBytes;
  }

  /** A slab of at least that size, whose content is whatever it was used for before. */
  take(bytes: number): SharedArrayBuffer {
    const size = Math.max(MIN_SLAB_BYTES, 2 ** Math.ceil(Math.log2(bytes)));
    const slab = this.#bySize.get(size)?.pop();
    if (slab === undefined) return new SharedArrayBuffer(size);
    this.#retainedBytes -= size;
    return slab;
  }

  give(slab: SharedArrayBuffer): void {
    if (this.#retainedBytes + slab.byteLength > this.#maxRetainedBytes) return;
    this.#retainedBytes += slab.byteLength;
    const same = this.#bySize.get(slab.byteLength);
    if (same === undefined) this.#bySize.set(slab.byteLength, [slab]);
    else same.push(slab);
  }
}

/** Tensors that another thread can read, as they were when they were staged. */
export interface Staged {
  readonly tensors: readonly (readonly [name: string, tensor: Tensor])[];
  /** Bytes copied for it; what lay in shared memory already is not. */
  readonly bytes: number;
  release(): void;
}

/**
 * Makes tensors readable for another thread. What lies in shared memory goes by reference; the rest is copied once, now,
 * so that a caller who changes an array afterwards changes nothing here.
 */
export function stage(tensors: Tensors, pool: SlabPool): Staged {
  const entries = Object.entries(tensors);
  let bytes = 0;
  for (const [, tensor] of entries) {
    const { data } = tensor;
    if (!isStrings(data) && !isShared(tensor)) bytes += Math.ceil(data.byteLength / ALIGNMENT) * ALIGNMENT;
  }
  const slab = bytes > 0 ? pool.take(bytes) : undefined;
  let at = 0;
  const staged = entries.map(([name, tensor]): readonly [string, Tensor] => {
    const { type, shape, data } = tensor;
    // Strings are cloned by the message itself, but only when it is sent; until then they are copied too.
    if (type === 'string' || isStrings(data)) return [name, { type, shape, data: [...(data as string[])] }];
    if (slab === undefined || isShared(tensor)) return [name, tensor];
    const copy = numericView(type, shape, slab, at);
    (copy as Uint8Array).set(data as Uint8Array);
    at += Math.ceil(data.byteLength / ALIGNMENT) * ALIGNMENT;
    return [name, { type, shape, data: copy }];
  });
  return { tensors: staged, bytes, release: () => slab !== undefined && pool.give(slab) };
}
