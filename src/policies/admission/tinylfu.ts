import type { Admission, AdmissionContext } from '../admission.ts';
import { FrequencySketch } from '../frequency-sketch.ts';

class TinyLfu implements Admission {
  readonly name = 'tinylfu';
  readonly #context: AdmissionContext;
  readonly #sketch = new FrequencySketch();

  constructor(context: AdmissionContext) {
    this.#context = context;
  }

  record(identity: number): void {
    this.#sketch.count(identity);
  }

  admits(candidate: number, _bytes: number, _costMs: number, victim: number): boolean {
    this.#sketch.reserve(this.#context.entries());
    return this.#sketch.estimate(candidate) > this.#sketch.estimate(victim);
  }
}

/**
 * Lets in what was asked for more often than what would go for it, by a sketch of all requests.
 *
 * Remembers sixteen bytes for each entry of the partition (rounded up to a power of two).
 *
 * Source: Einziger et al., "TinyLFU: a highly efficient cache admission policy", 2017, https://doi.org/10.1145/3149371
 */
export function tinyLfu(context: AdmissionContext): Admission {
  return new TinyLfu(context);
}
