import { lengthOfParts, type PutOptions, type RecordName } from '../stores/store.ts';
import type { Ordered } from './journal-frames.ts';

/** A record that is acknowledged, and not where it belongs. */
export interface Dirty {
  readonly name: RecordName;
  /** Milliseconds of the clock at which the first write of it came. */
  readonly since: number;
  parts: readonly Uint8Array[];
  bytes: number;
  token: number;
  /** Milliseconds since 1970. */
  expiresAtMs: number;
  /** Grows with every write of any name. */
  version: number;
  /** The last version of it that its target has; 0 if it has none. */
  stored: number;
  /** The last version that its target has, or has refused. */
  settled: number;
  /** In the journal; nothing if it is not there. */
  order: Ordered | undefined;
  /** Times in a row that it could not be written. */
  failures: number;
  notBeforeMs: number;
}

/** A write, as it is given. */
export interface GivenWrite extends PutOptions {
  readonly name: RecordName;
  readonly parts: readonly Uint8Array[];
}

/** Records that are not where they belong, the oldest first; the last write of each name. */
export class DirtyRecords {
  readonly #records = new Map<RecordName, Dirty>();
  #bytes = 0;
  #version = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#records.size;
  }

  get(name: RecordName): Dirty | undefined {
    return this.#records.get(name);
  }

  names(): IterableIterator<RecordName> {
    return this.#records.keys();
  }

  values(): IterableIterator<Dirty> {
    return this.#records.values();
  }

  /** Bytes there would be with that write. */
  bytesWith({ name, parts }: GivenWrite): number {
    return this.#bytes + lengthOfParts(parts) - (this.#records.get(name)?.bytes ?? 0);
  }

  /** Takes a write in, in place of an earlier one of its name. */
  hold({ name, parts, token = 0 }: GivenWrite, expiresAtMs: number, nowMs: number): Dirty {
    const bytes = lengthOfParts(parts);
    const old = this.#records.get(name);
    const version = ++this.#version;
    this.#bytes += bytes - (old?.bytes ?? 0);
    if (old !== undefined) return Object.assign(old, { parts, bytes, token, expiresAtMs, version });
    const fresh = { stored: 0, settled: 0, order: undefined, failures: 0, notBeforeMs: nowMs };
    const dirty: Dirty = { name, since: nowMs, parts, bytes, token, expiresAtMs, version, ...fresh };
    this.#records.set(name, dirty);
    return dirty;
  }

  /** Lets go of a record; `false` if it is gone already. */
  drop(dirty: Dirty): boolean {
    if (this.#records.get(dirty.name) !== dirty) return false;
    this.#records.delete(dirty.name);
    this.#bytes -= dirty.bytes;
    return true;
  }
}
