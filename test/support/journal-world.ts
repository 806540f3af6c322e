import assert from 'node:assert/strict';
import { crc32 as crcOf } from 'node:zlib';

import { FakeClock } from '../../src/base/clock.ts';
import type { Random } from '../../src/base/random.ts';
import type { Owners } from '../../src/tiers/journal-adoption.ts';
import { frameOf, readFrames, type PutEntry } from '../../src/tiers/journal-frames.ts';
import { Journal, type JournalOptions, type Noting, type Replayed } from '../../src/tiers/journal.ts';
import type { SimulatedFiles } from './simulated-files.ts';

/** Processes that live and die as a test wants. */
export class SimulatedOwners implements Owners {
  readonly living: Set<string> = new Set();
  #made = 0;

  make(): string {
    const name = `process-${++this.#made}`;
    this.living.add(name);
    return name;
  }

  isAbandoned(name: string): boolean | undefined {
    return name.startsWith('process-') ? !this.living.has(name) : undefined;
  }

  disown(name: string): void {
    this.living.delete(name);
  }

  /** The machine goes down. */
  killAll(): void {
    this.living.clear();
  }
}

/** What is known of a name, by versions that grow with each write of it. */
interface Known {
  issued: number;
  acknowledged: number;
  /** `done` was called for it, so that it may be forgotten. */
  done: number;
  /** It must not come back. */
  settled: number;
  readonly notings: Map<number, Noting>;
}

/** Options of a journal with small files on a simulated disk. */
export function journalOptions(files: SimulatedFiles, more: Partial<JournalOptions> = {}): JournalOptions {
  return {
    folder: '/journal',
    durability: 'every',
    clock: new FakeClock(),
    wallClock: () => 1_000_000,
    files,
    maxFileBytes: 2000,
    maxBytes: 6000,
    ...more,
  };
}

/** A record whose every byte follows from its name and version. */
export function recordOf(name: string, version: number, lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(8 + lengthBytes);
  new DataView(bytes.buffer).setFloat64(0, version);
  for (let at = 8; at < bytes.length; at++) bytes[at] = (name.charCodeAt(1) * 31 + version * 7 + at) & 0xff;
  return bytes;
}

/** The version that a record says it is of, if all of its bytes are so. */
export function versionOf(name: string, bytes: Uint8Array): number {
  const version = new DataView(bytes.buffer, bytes.byteOffset, 8).getFloat64(0);
  assert.deepEqual(Buffer.from(bytes), Buffer.from(recordOf(name, version, bytes.length - 8)), `${name} is not whole`);
  return version;
}

/** Writes to a journal, and knows what must be there after a crash, however often that happens. */
export class JournalWorld {
  readonly #known = new Map<string, Known>();
  readonly #random: Random;
  readonly #keys: number;

  constructor(random: Random, keys = 6) {
    this.#random = random;
    this.#keys = keys;
  }

  /** Does something, most often a write. */
  act(journal: Journal): Promise<void> {
    const name = `k${this.#random.below(this.#keys)}`;
    const known = this.of(name);
    const kind = this.#random.below(10);
    if (kind < 6) return this.put(journal, name, this.#random.below(300));
    if (kind < 9) {
      this.finish(journal, name, known.acknowledged);
      return Promise.resolve();
    }
    return this.settle(journal);
  }

  async put(journal: Journal, name: string, lengthBytes: number): Promise<void> {
    const known = this.of(name);
    const version = ++known.issued;
    const record = recordOf(name, version, lengthBytes);
    const cut = this.#random.below(record.length);
    const parts = [record.subarray(0, cut), record.subarray(cut)];
    const noting = journal.put('tier', name, parts, { token: version, expiresAtMs: Number.POSITIVE_INFINITY });
    known.notings.set(version, noting);
    await noting.noted.then(
      () => (known.acknowledged = Math.max(known.acknowledged, version)),
      () => undefined,
    );
  }

  finish(journal: Journal, name: string, version: number): void {
    const known = this.of(name);
    const noting = known.notings.get(version);
    if (noting === undefined || version <= known.done) return;
    known.done = version;
    journal.done('tier', name, noting.order);
  }

  async settle(journal: Journal): Promise<void> {
    const done = [...this.#known.values()].map((known) => ({ known, version: known.done }));
    try {
      await journal.settleMarks();
    } catch {
      return;
    }
    for (const { known, version } of done) known.settled = Math.max(known.settled, version);
  }

  /** Nothing that was acknowledged and is not done is missing, nothing is there that must not be, and what is there is whole. */
  async check(journal: Journal, promised = true): Promise<void> {
    const found = new Map<string, Replayed>();
    for (const write of journal.claim('tier')) {
      assert.ok(!found.has(write.name), `${write.name} twice`);
      found.set(write.name, write);
    }
    for (const [name, known] of this.#known) {
      const write = found.get(name);
      if (write === undefined) {
        if (promised) assert.ok(known.acknowledged <= known.done, `${name}@${known.acknowledged} is lost`);
        // Its later writes were lost, or not acknowledged: nothing of it is promised any more.
        known.acknowledged = known.done = known.issued;
        continue;
      }
      const bytes = await journal.load('tier', write);
      assert.ok(bytes !== undefined, `${name} cannot be loaded`);
      const version = versionOf(name, bytes);
      assert.equal(write.token, version);
      assert.ok(version >= 1 && version <= known.issued, `${name}@${version} was never written`);
      if (promised)
        assert.ok(version >= known.acknowledged || known.acknowledged <= known.done, `${name}@${version} is old`);
      assert.ok(version > known.settled, `${name}@${version} has come back`);
      // From now on it is that which is promised.
      known.acknowledged = version;
      known.done = Math.min(known.done, version - 1);
      known.notings.set(version, { order: write.order, noted: Promise.resolve() });
    }
    for (const name of found.keys()) assert.ok(this.#known.has(name));
  }

  of(name: string): Known {
    let known = this.#known.get(name);
    if (known === undefined) {
      known = { issued: 0, acknowledged: 0, done: 0, settled: 0, notings: new Map() };
      this.#known.set(name, known);
    }
    return known;
  }
}

/** Opens a journal, or does not, as the machine goes down first. */
export async function openOrCrash(options: JournalOptions, crash: Promise<void>): Promise<Journal | undefined> {
  return Promise.race([Journal.open(options), crash.then(() => undefined)]);
}

/** A whole frame that says it is of another version. */
export function withVersion(frame: Uint8Array, version: number): Uint8Array {
  const entry = readFrames(frame, frame.subarray(0, 8)).frames[0]?.entry as PutEntry;
  const copy = Buffer.concat(frameOf(entry, frame.subarray(0, 8)));
  copy[8] = version;
  copy.writeUInt32LE(crcOf(copy.subarray(0, 20)), 20);
  return copy;
}
