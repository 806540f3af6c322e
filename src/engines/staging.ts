import type { SlabPool } from '../base/slab-pool.ts';
import { isShared, isStrings, numericView, type Tensor, type Tensors } from '../base/tensor.ts';

const ALIGNMENT = 64;

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
export function stage(tensors: Tensors, pool: SlabPool<SharedArrayBuffer>): Staged {
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
