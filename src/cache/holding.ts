import { InferkvError } from '../base/errors.ts';
import type { Key, Lease } from './partition.ts';

/** A value with what a partition knows of it, alive while it is in the index or somebody leases it. */
export interface Holding<V> {
  readonly key: Key;
  readonly value: V;
  /** Bytes charged to the budget for it. */
  chargedBytes: number;
  readonly costMs: number;
  /** On the partition's clock; `Infinity` for never. */
  readonly expiresAt: number;
  readonly tags: readonly string[];
  /** Where it lies in the index; -1 once it has left, or if it was never kept. */
  slot: number;
  leases: number;
}

/** A lease on a holding, for one thread. */
export class HeapLease<V> implements Lease<V> {
  #holding: Holding<V> | undefined;
  readonly costMs: number;
  readonly sizeBytes: number;
  readonly #onRelease: (holding: Holding<V>) => void;

  constructor(holding: Holding<V>, onRelease: (holding: Holding<V>) => void) {
    holding.leases++;
    this.#holding = holding;
    this.costMs = holding.costMs;
    this.sizeBytes = holding.chargedBytes;
    this.#onRelease = onRelease;
  }

  get value(): V {
    if (this.#holding !== undefined) return this.#holding.value;
    throw new InferkvError(
      'ERR_INFERKV_LEASE_RELEASED',
      'The lease was released, so its value may be gone; read it before releasing, or copy it.',
    );
  }

  release(): void {
    const holding = this.#holding;
    if (holding === undefined) return;
    this.#holding = undefined;
    holding.leases--;
    this.#onRelease(holding);
  }

  [Symbol.dispose](): void {
    this.release();
  }
}
