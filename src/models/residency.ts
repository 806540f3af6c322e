import { formatBytes } from '../base/bytes.ts';
import { messageOf, InferkvError, isInferkvError } from '../base/errors.ts';
import type { Clock } from '../base/clock.ts';
import type { HeapPartition } from '../cache/heap-partition.ts';
import type { Lease, Loaded } from '../cache/partition.ts';
import { besideLoad } from '../cache/single-flight.ts';
import { BatchingSession, type BatchingOptions } from '../engines/batching-session.ts';
import { DEFAULT_MAX_QUEUE, type Session } from '../engines/engine.ts';
import { tell } from '../telemetry/channels.ts';
import type { Catalog, ModelVersion } from './catalog.ts';

/** A session in memory. */
export interface Resident {
  readonly session: Session;
  readonly version: ModelVersion;
  /** Settles when everything it held is free. */
  readonly closed: PromiseWithResolvers<void>;
}

/** What a residency manager is made of. */
export interface ResidencyOptions {
  readonly catalog: Catalog;
  /** The partition `models`; its entries are sessions. */
  readonly partition: HeapPartition<Resident>;
  readonly clock: Clock;
  /** Milliseconds an unpinned model stays after its last use; `Infinity` if left out. */
  readonly keepAliveMs?: number;
}

// A plain load takes the file's bytes and up to a third more for prepacked weights and a run's activations.
const RESERVE_FACTOR = 1.3;
const MAX_LEARNT = 10_000;

/** Frees a session that left the partition: runs that were accepted end first. */
export async function closeResident({ session, version, closed }: Resident): Promise<void> {
  try {
    await session.close();
  } finally {
    tell('inferkv:model.released', () => ({
      model: version.name,
      version: version.version,
      digest: version.artifact.digest,
    }));
    closed.resolve();
  }
}

/**
 * Keeps loaded models within a budget of bytes: each is loaded once for all who ask, leased while it is used, and evicted
 * by the partition's policy when another needs the room. Bytes are accounted, not measured: 1.3 times the file before
 * the first load, afterwards what the engine counted for that digest.
 */
export class Residency {
  readonly #catalog: Catalog;
  readonly #partition: HeapPartition<Resident>;
  readonly #clock: Clock;
  readonly #keepAliveMs: number;
  readonly #learntBytes = new Map<string, number>();
  readonly #pins = new Map<string, Lease<Resident>>();
  /** Settle when a session that is loaded, or being loaded, is closed. */
  readonly #unfinished = new Set<Promise<void>>();
  readonly #idleTimers = new Map<string, { cancel(): void }>();

  constructor({ catalog, partition, clock, keepAliveMs = Number.POSITIVE_INFINITY }: ResidencyOptions) {
    this.#catalog = catalog;
    this.#partition = partition;
    this.#clock = clock;
    this.#keepAliveMs = keepAliveMs;
    catalog.onChange((from, to) => this.#swap(from, to));
  }

  /** The session of a version if it is loaded, leased; never waits. */
  tryLease(version: ModelVersion): Lease<Resident> | undefined {
    // Looked for first, so that a model that is not there is counted as a miss once, by the load.
    if (this.#partition.peek(version.key) === undefined) return undefined;
    return this.#tracked(version, this.#partition.lease(version.key));
  }

  /**
   * The session of a version, leased; loaded first if it is not there, waiting for room if need be.
   *
   * @throws InferkvError `ERR_INFERKV_BUDGET_EXCEEDED` if it can never fit, `ERR_INFERKV_ARTIFACT_*`, or what ends the wait
   */
  async lease(version: ModelVersion, signal?: AbortSignal): Promise<Lease<Resident>> {
    const reserveBytes = this.#reserveBytes(version);
    this.#assertFits(version, reserveBytes);
    const { lease } = await this.#partition.fetch(version.key, (stop) => this.#load(version, stop), {
      signal,
      reserveBytes,
    });
    return this.#tracked(version, lease) as Lease<Resident>;
  }

  /** Whether a version is loaded. */
  isResident(version: ModelVersion): boolean {
    return this.#partition.peek(version.key) !== undefined;
  }

  /** Bytes a loaded version is charged with; `undefined` if it is not loaded. */
  sizeBytes(version: ModelVersion): number | undefined {
    return this.isResident(version) ? this.#learntBytes.get(version.artifact.digest) : undefined;
  }

  isPinned(version: ModelVersion): boolean {
    return this.#pins.has(version.key);
  }

  /** Loads a version and keeps it whatever else needs room, until `unpin`. */
  async pin(version: ModelVersion, signal?: AbortSignal): Promise<void> {
    if (this.#pins.has(version.key)) return;
    const lease = await this.lease(version, signal);
    if (this.#pins.has(version.key)) lease.release();
    else this.#pins.set(version.key, lease);
  }

  /** Makes a pinned version evictable again. */
  unpin(version: ModelVersion): void {
    const pin = this.#pins.get(version.key);
    this.#pins.delete(version.key);
    pin?.release();
  }

  /** Takes a version out; settles when runs under way have ended and its memory is free. The next use loads it again. */
  async unload(version: ModelVersion): Promise<void> {
    this.unpin(version);
    const resident = this.#partition.peek(version.key);
    this.#partition.delete(version.key);
    await resident?.closed.promise;
  }

  /** Lets pins and timers go and takes everything out; settles when runs and loads under way have ended and all is free. */
  async close(): Promise<void> {
    for (const timer of this.#idleTimers.values()) timer.cancel();
    this.#idleTimers.clear();
    for (const pin of this.#pins.values()) pin.release();
    this.#pins.clear();
    await this.#partition.close();
    while (this.#unfinished.size > 0) await Promise.all(this.#unfinished);
  }

  #reserveBytes({ artifact, settings }: ModelVersion): number {
    const guess = Math.ceil(artifact.sizeBytes * RESERVE_FACTOR) * (settings.session?.workers ?? 1);
    return this.#learntBytes.get(artifact.digest) ?? guess;
  }

  #assertFits({ name }: ModelVersion, bytes: number): void {
    const { budgetBytes } = this.#partition.stats();
    if (bytes <= budgetBytes) return;
    throw new InferkvError(
      'ERR_INFERKV_BUDGET_EXCEEDED',
      `The model "${name}" needs about ${formatBytes(bytes)} and the budget of the partition models is ${formatBytes(budgetBytes)}; raise partitions.models.budgetBytes.`,
      { key: name },
    );
  }

  async #load(version: ModelVersion, signal: AbortSignal): Promise<Loaded<Resident>> {
    const { artifact, settings } = version;
    const start = this.#clock.now();
    const closed = this.#awaitedClosing();
    const session = await loadSession(version, this.#clock, signal).catch((error: unknown) => {
      closed.resolve();
      throw error;
    });
    const loadMs = this.#clock.now() - start;
    const sizeBytes = this.#learn(artifact.digest, session.sizeBytes);
    tell('inferkv:model.loaded', () => ({
      model: version.name,
      version: version.version,
      digest: artifact.digest,
      loadMs,
      sizeBytes,
    }));
    if (settings.pinned === true) besideLoad(() => void this.pin(version).catch(() => undefined));
    return {
      value: { session, version, closed },
      sizeBytes,
      costMs: loadMs,
    };
  }

  #awaitedClosing(): PromiseWithResolvers<void> {
    const closed = Promise.withResolvers<void>();
    this.#unfinished.add(closed.promise);
    void closed.promise.then(() => this.#unfinished.delete(closed.promise));
    return closed;
  }

  /** The most that a content was ever seen to take: a session knows only its own runs, and none right after its load. */
  #learn(digest: string, countedBytes: number): number {
    const sizeBytes = Math.max(countedBytes, this.#learntBytes.get(digest) ?? 0);
    this.#learntBytes.delete(digest);
    this.#learntBytes.set(digest, sizeBytes);
    const [oldest] = this.#learntBytes.keys();
    if (this.#learntBytes.size > MAX_LEARNT && oldest !== undefined) this.#learntBytes.delete(oldest);
    return sizeBytes;
  }

  /** A lease that corrects the accounting when it ends, and starts the wait for the next use. */
  #tracked(version: ModelVersion, lease: Lease<Resident> | undefined): Lease<Resident> | undefined {
    if (lease === undefined) return undefined;
    this.#idleTimers.get(version.key)?.cancel();
    const release = (): void => {
      const { digest } = version.artifact;
      const { sizeBytes } = resident.session;
      if (sizeBytes > (this.#learntBytes.get(digest) ?? 0)) {
        this.#partition.resize(version.key, this.#learn(digest, sizeBytes));
      }
      lease.release();
      this.#waitForUse(version);
    };
    const resident = lease.value;
    let released = false;
    const releaseOnce = (): void => {
      if (released) return;
      released = true;
      release();
    };
    return {
      value: resident,
      costMs: lease.costMs,
      sizeBytes: lease.sizeBytes,
      release: releaseOnce,
      [Symbol.dispose]: releaseOnce,
    };
  }

  #waitForUse(version: ModelVersion): void {
    const keepAliveMs = version.settings.keepAliveMs ?? this.#keepAliveMs;
    if (keepAliveMs === Number.POSITIVE_INFINITY) return;
    this.#idleTimers.get(version.key)?.cancel();
    const timer = this.#clock.after(keepAliveMs, () => {
      this.#idleTimers.delete(version.key);
      // The end of the lease that is still held starts the wait anew.
      if (!this.#partition.isLeased(version.key)) this.#partition.delete(version.key);
    });
    this.#idleTimers.set(version.key, timer);
  }

  /**
   * Makes a changed model the current one without a failed request: the new is loaded beside the old, which goes on
   * serving, and then takes its place. Where both do not fit together the old is let go first, and requests wait.
   */
  async #swap(from: ModelVersion, to: ModelVersion): Promise<void> {
    const old = this.#partition.peek(from.key);
    if (old === undefined) {
      this.#catalog.setCurrent(to);
      return;
    }
    const wasPinned = this.#pins.has(from.key);
    const reserveBytes = this.#reserveBytes(to);
    this.#assertFits(to, reserveBytes);
    if (!this.#partition.fitsBeside(reserveBytes, from.key)) {
      this.#catalog.setCurrent(to);
      this.unpin(from);
      this.#partition.delete(from.key);
      await (wasPinned ? this.pin(to) : this.#warm(to));
      return;
    }
    // Held, so that making room for the new cannot evict the old before its time.
    using _held = this.#partition.lease(from.key);
    await (wasPinned ? this.pin(to) : this.#warm(to));
    this.#catalog.setCurrent(to);
    this.unpin(from);
    this.#partition.delete(from.key);
  }

  async #warm(version: ModelVersion): Promise<void> {
    (await this.lease(version)).release();
  }
}

async function loadSession(version: ModelVersion, clock: Clock, signal: AbortSignal): Promise<Session> {
  const { engine, artifact, settings, name } = version;
  let session: Session;
  try {
    session = await engine.load(artifact, settings.session, signal);
  } catch (error) {
    if (isInferkvError(error)) throw error;
    throw new InferkvError(
      'ERR_INFERKV_ENGINE_FAILED',
      `The engine ${engine.name} could not load the model "${name}": ${messageOf(error)}`,
      { cause: error, key: name },
    );
  }
  return settings.batching === undefined ? session : batched(session, settings.batching, version, clock);
}

async function batched(
  session: Session,
  batching: BatchingOptions,
  { settings }: ModelVersion,
  clock: Clock,
): Promise<Session> {
  const { workers = 1, maxQueue = DEFAULT_MAX_QUEUE } = settings.session ?? {};
  try {
    return new BatchingSession(session, { ...batching, workers, maxQueue, clock });
  } catch (error) {
    await session.close();
    throw error;
  }
}
