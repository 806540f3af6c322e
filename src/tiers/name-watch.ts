import type { RecordName } from '../stores/store.ts';

/** A read under way that may bring a record nearer. */
export interface Watched {
  /** Its record was deleted or written anew meanwhile: what was read must not be written anywhere. */
  isOutdated: boolean;
}

/**
 * What is under way by name: changes of one name are made one after the other, in the order in which they were asked for, and a
 * read that began before a change brings nothing back.
 */
export class NameWatch {
  readonly #reads = new Map<RecordName, Set<Watched>>();
  readonly #lanes = new Map<RecordName, Promise<unknown>>();

  /** Follows a read until `end`. */
  begin(name: RecordName): Watched {
    const watched = { isOutdated: false };
    const reads = this.#reads.get(name) ?? new Set();
    reads.add(watched);
    this.#reads.set(name, reads);
    return watched;
  }

  end(name: RecordName, watched: Watched): void {
    const reads = this.#reads.get(name);
    reads?.delete(watched);
    if (reads?.size === 0) this.#reads.delete(name);
  }

  /** The reads of a name that are under way are out of date. */
  outdate(name: RecordName): void {
    for (const watched of this.#reads.get(name) ?? []) watched.isOutdated = true;
  }

  /** Makes a change after all that were asked for before of that name. */
  inOrder<T>(name: RecordName, change: () => Promise<T>): Promise<T> {
    const before = this.#lanes.get(name);
    const made = before === undefined ? change() : before.then(change);
    const lane: Promise<unknown> = made
      .catch(() => undefined)
      .finally(() => {
        if (this.#lanes.get(name) === lane) this.#lanes.delete(name);
      });
    this.#lanes.set(name, lane);
    return made;
  }
}
