import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import type { PolicyContext } from '../policies/policy.ts';
import type { EntryTable } from './entry-table.ts';
import { identityOf, type KeyIndex } from './key-index.ts';

/** What a policy may know of the entries of a table. A class, as every policy asks it and the engine then knows whom. */
export class TableContext implements PolicyContext {
  readonly budgetBytes: number;
  readonly #table: EntryTable<unknown>;
  readonly #index: KeyIndex;
  readonly #clock: Clock;
  readonly #random: Random;

  constructor(
    { clock, random }: { readonly clock: Clock; readonly random: Random },
    table: EntryTable<unknown>,
    index: KeyIndex,
    budgetBytes: number,
  ) {
    this.#table = table;
    this.#index = index;
    this.#clock = clock;
    this.#random = random;
    this.budgetBytes = budgetBytes;
  }

  sizeBytes(slot: number): number {
    return this.#table.chargedBytes(slot);
  }

  costMs(slot: number): number {
    return this.#table.costMs(slot);
  }

  identity(slot: number): number {
    return identityOf(this.#index.keyOf(slot));
  }

  parent(): number {
    return -1;
  }

  isPinned(slot: number): boolean {
    return this.#table.isHeld(slot);
  }

  now(): number {
    return this.#clock.now();
  }

  random(): number {
    return this.#random.next();
  }
}
