import type { SharedMemoryStore } from '../stores/shared-memory/store.ts';
import { hexOf } from './entry-digest.ts';
import type { SharedBooks } from './shared-books.ts';

/** An entry that another thread is to write. */
export interface Awaited {
  readonly hex: string;
  /** Where it came to lie, held; -1 until then. */
  slot: number;
}

/** Holds entries from the moment that they come from other threads, for those who wait for them. Costs nothing while nobody does. */
export class Arrivals {
  readonly #store: SharedMemoryStore;
  readonly #books: SharedBooks;
  readonly #awaited = new Map<string, Set<Awaited>>();

  constructor(store: SharedMemoryStore, books: SharedBooks) {
    this.#store = store;
    this.#books = books;
  }

  /** Holds whatever comes to lie under that digest from now on, until it is dropped. */
  expect(hex: string): Awaited {
    const awaited: Awaited = { hex, slot: -1 };
    const same = this.#awaited.get(hex);
    if (same === undefined) this.#awaited.set(hex, new Set([awaited]));
    else same.add(awaited);
    this.#books.onArrival = this.#arrived;
    return awaited;
  }

  drop(awaited: Awaited): void {
    const same = this.#awaited.get(awaited.hex);
    same?.delete(awaited);
    if (same?.size === 0) this.#awaited.delete(awaited.hex);
    if (this.#awaited.size === 0) this.#books.onArrival = undefined;
    const { slot } = awaited;
    if (slot < 0) return;
    awaited.slot = -1;
    this.#store.unhold(slot);
    if (!this.#books.isHere(slot)) this.#store.reclaim();
  }

  /** In the midst of the store's own work: holds what came, and does no more. */
  readonly #arrived = (slot: number): void => {
    for (const awaited of this.#awaited.get(hexOf(this.#books.facts.digest(slot))) ?? []) {
      if (awaited.slot >= 0) this.#store.unhold(awaited.slot);
      this.#store.hold(slot);
      awaited.slot = slot;
    }
  };
}
