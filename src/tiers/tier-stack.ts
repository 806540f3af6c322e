import { throwIfAborted } from '../base/cancellation.ts';
import { isSealable, type CacheRecord, type TagEpoch } from '../stores/record.ts';
import { lengthOfParts, type RecordName } from '../stores/store.ts';
import type { Epochs } from './epochs.ts';
import type { Worth } from './worth.ts';
import { NameWatch, type Watched } from './name-watch.ts';
import { SeenTwice } from './seen-twice.ts';
import type { Tier, Wanted } from './tier.ts';
import type { WriteBack } from './write-back.ts';

/**
 * How a level takes part in writes. `through`: a write is acknowledged when the level has it; `back`: when it is in memory, and
 * in the journal as durably as that is set, and the level gets it later; `around`: a write passes the level by, which gets the
 * value when it is read from further down. (Some texts have the last two, or the first two, the other way round.)
 */
export type WriteMode = 'through' | 'back' | 'around';

/** When a level takes in what a read found further down: every time, from the second time on, or not at all. */
export type Promotion = 'always' | 'second-hit' | 'never';

/** A tier as one partition uses it. */
export interface Level {
  readonly tier: Tier;
  readonly write: WriteMode;
  /** There where `write` is `back`. */
  readonly writeBack: WriteBack | undefined;
  readonly promotion: Promotion;
  /** Values that were used at least that often go down; 0 if this is no reason. */
  readonly minUses: number;
  /** Values that took at least that many milliseconds go down; 0 if this is no reason. If neither is, all do. */
  readonly minCostMs: number;
  /** Whether a fetch is worth its while. */
  readonly worth: Worth;
}

// What is sent down without anybody waiting lies in memory until it has gone.
const MAX_LATER_BYTES = 64 * 2 ** 20;
const MAX_OWED = 10_000;

/** What a stack is made of. */
export interface TierStackOptions {
  readonly partition: string;
  /** The nearest first. */
  readonly levels: readonly Level[];
  readonly epochs: Epochs;
}

/** How a value is looked for. */
export interface FindOptions {
  readonly tenant?: string | undefined;
  /** Labels that it has to have: one that was made without could not be invalidated by them. */
  readonly tags?: readonly string[] | undefined;
  /** What is alike in size and cost; unknown if left out. */
  readonly group?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A value that was found. */
export interface Found {
  readonly record: CacheRecord;
  readonly level: Level;
}

/** A value that goes down. */
export interface Descent {
  readonly digest: Uint8Array;
  readonly record: Omit<CacheRecord, 'partition' | 'digest'>;
  /** Milliseconds it may be kept; for ever if left out. */
  readonly ttlMs: number | undefined;
  /** Reads of it so far. */
  readonly uses: number;
  /** It takes the place of whatever lies there: where it does not go, that leaves. */
  readonly replaces: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** What became of a value in each of the levels. `skipped`: it was not to go there; `failed`: the store could not, or would not. */
export type DescentReport = Readonly<Record<string, 'written' | 'acknowledged' | 'skipped' | 'failed'>>;

/** The tiers below memory, as one partition has them: reads go down until something is found, writes as each level has it. */
export class TierStack {
  readonly #partition: string;
  readonly #levels: readonly Level[];
  readonly #epochs: Epochs;
  readonly #seen = new SeenTwice();
  readonly #names = new NameWatch();
  /** Deletions that a level could not be told of. */
  readonly #owed = new Map<Level, Set<RecordName>>();
  #laterBytes = 0;
  /** What goes on in the background and has to end before the stores close. */
  readonly #underWay = new Set<Promise<unknown>>();

  constructor({ partition, levels, epochs }: TierStackOptions) {
    this.#partition = partition;
    this.#levels = levels;
    this.#epochs = epochs;
  }

  get levels(): readonly Level[] {
    return this.#levels;
  }

  /** What a value is called in every store. */
  nameOf(digest: Uint8Array): RecordName {
    return `${this.#partition}/${Buffer.from(digest.buffer, digest.byteOffset, digest.length).toString('hex')}`;
  }

  /** The value, from the nearest level that has it and is worth asking. Never throws but for its signal. */
  async find(digest: Uint8Array, options: FindOptions = {}): Promise<Found | undefined> {
    const wanted = this.#wanted(digest, options);
    const watched = this.#names.begin(wanted.name);
    try {
      for (const [depth, level] of this.#levels.entries()) {
        // An earlier process acknowledged a write of it that is not made yet: what lies here and further down is older.
        if (level.writeBack?.isUnsure(wanted.name) === true) return undefined;
        const record = await this.#look(level, wanted, options);
        throwIfAborted(options.signal);
        if (record === undefined || !(await this.#isCurrent(level, wanted, record, options))) continue;
        this.learn(options.group, record.payload.length, record.costMs);
        this.#promote(depth, wanted.name, record, watched);
        return { record, level };
      }
      return undefined;
    } finally {
      this.#names.end(wanted.name, watched);
    }
  }

  /** As `find` for many at a time, a call a level: for the blocks of a prefix. */
  async findMany(digests: readonly Uint8Array[], options: FindOptions = {}): Promise<readonly (Found | undefined)[]> {
    const found: (Found | undefined)[] = digests.map(() => undefined);
    const watched = digests.map((digest) => this.#names.begin(this.nameOf(digest)));
    try {
      await this.#findInto(found, watched, digests, options);
      return found;
    } finally {
      for (const [at, digest] of digests.entries()) this.#names.end(this.nameOf(digest), watched[at] as Watched);
    }
  }

  async #findInto(
    found: (Found | undefined)[],
    watched: readonly Watched[],
    digests: readonly Uint8Array[],
    options: FindOptions,
  ): Promise<void> {
    for (const [depth, level] of this.#levels.entries()) {
      const missing = digests.flatMap((digest, at) =>
        found[at] === undefined && !this.#isUnsure(level, digest)
          ? [{ at, wanted: this.#wanted(digest, options) }]
          : [],
      );
      if (missing.length === 0) break;
      const records = await this.#lookMany(
        level,
        missing.map(({ wanted }) => wanted),
        options.signal,
      );
      throwIfAborted(options.signal);
      for (const [index, { at, wanted }] of missing.entries()) {
        const record = records[index];
        if (record === undefined || !(await this.#isCurrent(level, wanted, record, options))) continue;
        this.#promote(depth, wanted.name, record, watched[at] as Watched);
        found[at] = { record, level };
      }
    }
  }

  /** A value of a group had that size, and cost so much to compute: what fetches are weighed by. */
  learn(group: string | undefined, sizeBytes: number, costMs: number): void {
    for (const { worth } of this.#levels) worth.learn(group, sizeBytes, costMs);
  }

  /** Milliseconds that a value of a group is likely to cost; `undefined` where nobody knows. */
  costMs(group: string | undefined): number | undefined {
    return this.#levels[0]?.worth.costMs(group);
  }

  /** Sends a value down; settles when every level has acknowledged it that is to, or has failed. Never throws. */
  async write(descent: Descent): Promise<DescentReport> {
    const name = this.nameOf(descent.digest);
    if (descent.replaces) this.#names.outdate(name);
    return this.#names.inOrder(name, () => this.#writeNow(descent));
  }

  async #writeNow(descent: Descent): Promise<DescentReport> {
    const reports = await Promise.all(
      this.#levels.map(async (level) => [level.tier.name, await this.#descend(level, descent)] as const),
    );
    return Object.fromEntries(reports);
  }

  /** As `write`, waited for by nobody but `settled`; `false` where too many bytes are on their way like that already. */
  writeLater(descent: Descent): boolean {
    const { length } = descent.record.payload;
    if (this.#laterBytes > 0 && this.#laterBytes + length > MAX_LATER_BYTES) return false;
    this.#laterBytes += length;
    const written = this.write(descent).finally(() => {
      this.#laterBytes -= length;
    });
    this.track(written);
    return true;
  }

  /** Whether some level waits for values to be used so often before it takes them. */
  get minUses(): number {
    const thresholds = this.#levels.map(({ minUses }) => minUses).filter((uses) => uses > 0);
    return thresholds.length === 0 ? 0 : Math.min(...thresholds);
  }

  /** Takes a value out of every level; settles when they have done it, or have failed. */
  async delete(digest: Uint8Array): Promise<void> {
    const name = this.nameOf(digest);
    this.#names.outdate(name);
    await this.#names.inOrder(name, async () => {
      await Promise.all(this.#levels.map((level) => this.#remove(level, name)));
    });
  }

  /** As `delete`, waited for by nobody but `settled`. */
  deleteLater(digest: Uint8Array): void {
    this.track(this.delete(digest));
  }

  /** An entry has left memory: what is not written yet goes first now. */
  evicted(digest: Uint8Array): void {
    for (const { writeBack } of this.#levels) writeBack?.evicted(this.nameOf(digest));
  }

  /** Waits until everything has gone down that is on its way, dirty values included. */
  async flush(): Promise<void> {
    await this.settled();
    await Promise.all(this.#levels.map(async ({ writeBack }) => writeBack?.flush()));
  }

  /** Has `settled` wait for something that nobody else waits for. */
  track(work: Promise<unknown>): void {
    const tracked = work.catch(() => undefined).finally(() => this.#underWay.delete(tracked));
    this.#underWay.add(tracked);
  }

  /** Waits for what goes on in the background. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
  }

  /** Takes a record out of a level; one that cannot be reached owes it, and is not asked for that name before it is done. */
  async #remove(level: Level, name: RecordName): Promise<void> {
    const { tier, writeBack } = level;
    const isDone = await (writeBack === undefined
      ? tier.delete(name)
      : writeBack.remove(name, () => tier.delete(name)).catch(() => false));
    const owed = this.#owed.get(level) ?? new Set();
    this.#owed.set(level, owed);
    if (isDone) owed.delete(name);
    else owed.add(name);
    const [oldest] = owed;
    if (owed.size > MAX_OWED && oldest !== undefined) owed.delete(oldest);
  }

  #wanted(digest: Uint8Array, { tenant }: FindOptions): Wanted {
    return { name: this.nameOf(digest), partition: this.#partition, digest, tenant };
  }

  async #look(level: Level, wanted: Wanted, options: FindOptions): Promise<CacheRecord | undefined> {
    const { tier, writeBack, worth } = level;
    if (this.#owed.get(level)?.has(wanted.name) === true) {
      await this.#remove(level, wanted.name);
      return undefined;
    }
    const dirty = writeBack?.read(wanted.name);
    if (dirty !== undefined) return tier.open(joined(dirty), wanted);
    return worth.fetch(options.group, options.signal, (signal) => tier.get(wanted, { signal }));
  }

  async #lookMany(
    { tier, writeBack }: Level,
    wanted: readonly Wanted[],
    signal: AbortSignal | undefined,
  ): Promise<readonly (CacheRecord | undefined)[]> {
    const dirty = wanted.map(({ name }) => writeBack?.read(name));
    const asked = wanted.filter((_, at) => dirty[at] === undefined);
    const read = asked.length === 0 ? [] : await tier.getMany(asked, { signal });
    const byName = new Map(asked.map(({ name }, at) => [name, read[at]]));
    return wanted.map((each, at) => {
      const parts = dirty[at];
      return parts === undefined ? byName.get(each.name) : tier.open(joined(parts), each);
    });
  }

  #isUnsure({ writeBack }: Level, digest: Uint8Array): boolean {
    return writeBack?.isUnsure(this.nameOf(digest)) === true;
  }

  /** Whether nothing that the value was made from has been invalidated since. */
  async #isCurrent(
    { tier }: Level,
    { name }: Wanted,
    { tags }: CacheRecord,
    { tags: required = [], signal }: FindOptions,
  ): Promise<boolean> {
    const hasAll = required.every((tag) => tags.some((each) => each.tag === tag));
    const verdict = hasAll ? await this.#epochs.check(tags, signal) : 'stale';
    if (verdict === 'current') return true;
    if (verdict === 'stale') tier.doubtHit(name, 'epoch');
    return false;
  }

  /** Brings a value nearer that was found at a depth. */
  #promote(depth: number, name: RecordName, record: CacheRecord, watched: Watched): void {
    const nearer = this.#levels.slice(0, depth).filter(({ promotion }) => promotion !== 'never');
    if (nearer.length === 0) return;
    const isSecond = this.#seen.see(name);
    const ttlMs = record.expiresAtMs === Number.POSITIVE_INFINITY ? undefined : record.expiresAtMs - record.madeAtMs;
    for (const { tier, promotion } of nearer) {
      if (promotion === 'second-hit' && !isSecond) continue;
      const parts = tier.seal(record);
      if (lengthOfParts(parts) > tier.traits.maxRecordBytes) continue;
      const put = async (): Promise<unknown> =>
        watched.isOutdated ? undefined : tier.put(name, parts, ttlMs === undefined ? {} : { ttlMs });
      this.track(this.#names.inOrder(name, put));
    }
  }

  async #descend(level: Level, descent: Descent): Promise<DescentReport[string]> {
    const outcome = await this.#descendTo(level, descent);
    // What lies there is older than what was acknowledged.
    if (descent.replaces && (outcome === 'skipped' || outcome === 'failed')) {
      await this.#remove(level, this.nameOf(descent.digest));
    }
    return outcome;
  }

  async #descendTo(level: Level, descent: Descent): Promise<DescentReport[string]> {
    const { tier, write, writeBack } = level;
    const { digest, record, ttlMs, signal } = descent;
    if (write === 'around' || !goesDown(level, descent)) return 'skipped';
    const name = this.nameOf(digest);
    const sealed = { ...record, partition: this.#partition, digest };
    if (!isSealable(sealed)) return 'skipped';
    const parts = tier.seal(sealed);
    if (lengthOfParts(parts) > tier.traits.maxRecordBytes) return 'skipped';
    const options = { ...(ttlMs !== undefined && { ttlMs }), token: record.token, signal };
    if (writeBack === undefined) {
      return (await tier.put(name, parts, options)) === 'stored' ? 'written' : 'failed';
    }
    try {
      const how = await writeBack.add(name, parts, options);
      return how === 'dropped' ? 'failed' : how === 'through' ? 'written' : 'acknowledged';
    } catch {
      // The journal's disk fails, or the caller has left: nothing of that is the request's failure.
      return 'failed';
    }
  }
}

/** The epochs of tags, side by side with them. */
export function tagEpochs(tags: readonly string[], epochs: readonly number[]): readonly TagEpoch[] {
  return tags.map((tag, at) => ({ tag, epoch: epochs[at] ?? 0 }));
}

/** Whether a level takes a value now: when it is new, and dear enough or no reason is needed; or when it was used often enough. */
function goesDown({ minUses, minCostMs }: Level, { uses, record }: Descent): boolean {
  const isDear = minCostMs > 0 && record.costMs >= minCostMs;
  if (uses === 0) return isDear || (minUses === 0 && minCostMs === 0);
  return !isDear && minUses > 0 && uses >= minUses;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(lengthOfParts(parts));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
