import type { UseListener } from './use-listener.ts';

/** Several who are told of the uses of a partition, as one; `undefined` for none, and itself for one. */
export function severalListeners(listeners: readonly (UseListener | undefined)[]): UseListener | undefined {
  const there = listeners.filter((each) => each !== undefined);
  return there.length <= 1 ? there[0] : new SeveralListeners(there);
}

class SeveralListeners implements UseListener {
  readonly #listeners: readonly UseListener[];
  readonly #wanting: boolean[] = [];

  constructor(listeners: readonly UseListener[]) {
    this.#listeners = listeners;
  }

  wants(identity: number): boolean {
    let isAny = false;
    for (const [at, listener] of this.#listeners.entries()) {
      const wants = listener.wants(identity);
      this.#wanting[at] = wants;
      isAny ||= wants;
    }
    return isAny;
  }

  used(key: string, identity: number, sizeBytes: number, costMs: number, isHit: boolean): void {
    for (const [at, listener] of this.#listeners.entries()) {
      if (this.#wanting[at] === true) listener.used(key, identity, sizeBytes, costMs, isHit);
    }
  }

  usedChain(
    keys: readonly string[],
    identities: ArrayLike<number>,
    sizeBytes: number,
    costMs: number,
    hits: number,
  ): void {
    for (const listener of this.#listeners) listener.usedChain(keys, identities, sizeBytes, costMs, hits);
  }
}
