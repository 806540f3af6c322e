import type { RecordName } from '../stores/store.ts';

/** Something under way that would bring a record to a store: a read that may promote, a write. */
export interface Watched {
  /** Its record was deleted meanwhile: it must not be written any more. */
  isDeleted: boolean;
}

/** What is under way by name, so that a deletion comes last: nothing that began before it may bring the record back. */
export class NameWatch {
  readonly #watched = new Map<RecordName, Set<Watched>>();
  readonly #writes = new Map<RecordName, Set<Promise<unknown>>>();

  /** Follows something until `end`. */
  begin(name: RecordName): Watched {
    const watched = { isDeleted: false };
    addTo(this.#watched, name, watched);
    return watched;
  }

  end(name: RecordName, watched: Watched): void {
    takeFrom(this.#watched, name, watched);
  }

  /** Follows a write that has been handed to a store. */
  writing<T>(name: RecordName, write: Promise<T>): Promise<T> {
    addTo(this.#writes, name, write);
    const end = (): void => takeFrom(this.#writes, name, write);
    write.then(end, end);
    return write;
  }

  /** Tells all that is under way; settles when no write is that began before. */
  async deleted(name: RecordName): Promise<void> {
    for (const watched of this.#watched.get(name) ?? []) watched.isDeleted = true;
    const writes: ReadonlySet<Promise<unknown>> = this.#writes.get(name) ?? new Set();
    await Promise.allSettled(writes);
  }
}

function addTo<T>(map: Map<RecordName, Set<T>>, name: RecordName, value: T): void {
  const values = map.get(name) ?? new Set<T>();
  values.add(value);
  map.set(name, values);
}

function takeFrom<T>(map: Map<RecordName, Set<T>>, name: RecordName, value: T): void {
  const values = map.get(name);
  values?.delete(value);
  if (values?.size === 0) map.delete(name);
}
