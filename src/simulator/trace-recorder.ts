import { randomBytes } from 'node:crypto';

import type { Clock } from '../base/clock.ts';
import type { UseListener } from '../telemetry/use-listener.ts';
import { encodeRequest, recordedId } from './formats/recorded.ts';
import { TraceFiles } from './trace-files.ts';

/** Blocks and single entries that wait to be written at most; what comes beyond is dropped and counted. */
const MOST_WAITING = 1 << 16;
/** Of those, how many are encoded before others get the thread again. */
const STEP = 512;
const WRITE_EVERY_MS = 200;

/** How a recording is made. */
export interface TraceRecorderOptions {
  /** Where its files go; made if it is not there. */
  readonly folder: string;
  /** Bytes of a file at most; 64 MB if left out. */
  readonly maxFileBytes?: number | undefined;
  /** Files at most, of this and earlier recordings in the folder; the oldest go. 8 if left out. */
  readonly maxFiles?: number | undefined;
  readonly clock: Clock;
  /** Told once, if writing fails; the recording ends there and nothing else does. */
  readonly onFailure?: ((error: unknown) => void) | undefined;
}

/** What a recording has come to. */
export interface RecordingStats {
  readonly requests: number;
  /** Requests that came faster than they could be written, or whose chain is too long for a file. */
  readonly dropped: number;
  readonly writtenBytes: number;
}

interface Waiting {
  readonly timeMs: number;
  readonly partition: string;
  readonly keys: readonly string[];
  readonly sizeBytes: number;
  readonly costMs: number;
}

/**
 * Writes what is asked for to trace files, without keys: an id is a keyed hash under a secret that is drawn for this recording,
 * lies in memory only and is gone with it. So nobody finds a prompt by its id, or whom two recordings have in common.
 *
 * A use is put on a list, bounded by 65,536 blocks; hashing and writing follow in small steps. Nobody waits for the disk. After a
 * crash what came within the last 200 ms is missing, and the last line may be cut, which readers pass over.
 */
export class TraceRecorder implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #files: TraceFiles;
  readonly #secret = randomBytes(32);
  readonly #startMs: number;
  readonly #onFailure: ((error: unknown) => void) | undefined;
  #waiting: Waiting[] = [];
  #waitingBlocks = 0;
  #timer: { cancel(): void } | undefined;
  #writing: Promise<void> | undefined;
  #isOpen = true;
  #hasFailed = false;
  #requests = 0;
  #dropped = 0;

  private constructor({ clock, onFailure }: TraceRecorderOptions, files: TraceFiles) {
    this.#clock = clock;
    this.#files = files;
    this.#onFailure = onFailure;
    this.#startMs = clock.now();
  }

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for limits that make no sense, or a folder that cannot be written to */
  static async start(options: TraceRecorderOptions): Promise<TraceRecorder> {
    return new TraceRecorder(options, await TraceFiles.open(options));
  }

  /** What a partition of that name is to be listened to by. */
  listener(partition: string): UseListener {
    return {
      wants: () => this.#isOpen,
      used: (key, _identity, sizeBytes, costMs) => this.#take(partition, [key], sizeBytes, costMs),
      usedChain: (keys, _identities, sizeBytes, costMs) => this.#take(partition, [...keys], sizeBytes, costMs),
    };
  }

  stats(): RecordingStats {
    return { requests: this.#requests, dropped: this.#dropped, writtenBytes: this.#files.writtenBytes };
  }

  /** Writes what waits and ends the recording. */
  async close(): Promise<void> {
    this.#isOpen = false;
    this.#timer?.cancel();
    await this.#writing;
    await this.#write();
    await this.#files.close().catch((error: unknown) => this.#fail(error));
    this.#secret.fill(0);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #take(partition: string, keys: readonly string[], sizeBytes: number, costMs: number): void {
    if (!this.#isOpen || keys.length === 0) return;
    if (this.#waitingBlocks + keys.length > MOST_WAITING) {
      this.#dropped++;
      return;
    }
    this.#waiting.push({ timeMs: this.#clock.now() - this.#startMs, partition, keys, sizeBytes, costMs });
    this.#waitingBlocks += keys.length;
    this.#requests++;
    this.#timer ??= this.#clock.after(WRITE_EVERY_MS, () => {
      this.#timer = undefined;
      this.#writing ??= this.#write().finally(() => (this.#writing = undefined));
    });
  }

  async #write(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    try {
      for (let from = 0; from < waiting.length;) {
        let lines = '';
        for (let blocks = 0; from < waiting.length && blocks < STEP; from++) {
          const request = waiting[from] as Waiting;
          blocks += request.keys.length;
          lines += this.#lineOf(request);
        }
        // Waiting for the disk gives the thread to others.
        const leftOut = await this.#files.append(lines);
        this.#requests -= leftOut;
        this.#dropped += leftOut;
      }
    } catch (error) {
      this.#fail(error);
    }
    for (const { keys } of waiting) this.#waitingBlocks -= keys.length;
  }

  #lineOf({ partition, keys, ...facts }: Waiting): string {
    return encodeRequest({ ...facts, partition, ids: keys.map((key) => recordedId(this.#secret, partition, key)) });
  }

  #fail(error: unknown): void {
    if (!this.#hasFailed) this.#onFailure?.(error);
    this.#hasFailed = true;
    this.#isOpen = false;
    this.#waiting = [];
  }
}
