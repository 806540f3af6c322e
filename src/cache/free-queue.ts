import type { ByteBudget } from './byte-budget.ts';

/** Frees what a value holds on to; what it gives back settles when that is done. */
export type Free<V> = (value: V) => void | Promise<void>;

/**
 * Frees values that nobody can reach any more, and gives their bytes back when their owner is done. An owner that fails
 * has said so elsewhere; its bytes come back all the same. What leaves while an owner frees, because it called the
 * partition, is freed after it: no recursion, and until then its bytes count as coming back.
 */
export class FreeQueue<V> {
  readonly #free: Free<V> | undefined;
  readonly #budget: ByteBudget;
  readonly #later: { readonly value: V; readonly bytes: number }[] = [];
  readonly #pending = new Set<Promise<void>>();
  #busy = false;

  constructor(free: Free<V> | undefined, budget: ByteBudget) {
    this.#free = free;
    this.#budget = budget;
  }

  /** Frees a value that so many bytes of the budget are charged for. */
  free(value: V, bytes: number): void {
    if (this.#free === undefined) {
      if (bytes > 0) this.#budget.give(bytes, false);
      return;
    }
    if (this.#busy) {
      this.#budget.expect(bytes);
      this.#later.push({ value, bytes });
      return;
    }
    this.#busy = true;
    try {
      this.#call(this.#free, value, bytes, false);
      for (let next = this.#later.shift(); next !== undefined; next = this.#later.shift()) {
        this.#call(this.#free, next.value, next.bytes, true);
      }
    } finally {
      this.#busy = false;
    }
  }

  /** Settles when nothing is being freed any more. */
  async settled(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
  }

  #call(free: Free<V>, value: V, bytes: number, isExpected: boolean): void {
    let freed: void | Promise<void>;
    try {
      freed = free(value);
    } catch {
      freed = undefined;
    }
    if (freed === undefined) {
      this.#budget.give(bytes, isExpected);
      return;
    }
    if (!isExpected) this.#budget.expect(bytes);
    const given = this.#giveAfter(freed, bytes).finally(() => this.#pending.delete(given));
    this.#pending.add(given);
  }

  async #giveAfter(freed: Promise<void>, bytes: number): Promise<void> {
    try {
      await freed;
    } catch {
      // A failing owner has said so elsewhere.
    } finally {
      this.#budget.give(bytes, true);
    }
  }
}
