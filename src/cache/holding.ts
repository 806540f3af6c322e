import { InferkvError } from '../base/errors.ts';
import type { Lease } from './partition.ts';

/** A value that somebody leases, with what must be known of it after its entry has left. */
export interface Holding<V> {
  readonly value: V;
  readonly costMs: number;
  sizeBytes: number;
  /** Bytes charged to the budget for it; 0 if it was served and not kept. */
  chargedBytes: number;
  /** Where its entry lies; -1 once that has left, or if there never was one. */
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
    this.sizeBytes = holding.sizeBytes;
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
