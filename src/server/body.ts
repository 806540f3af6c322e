import type { IncomingMessage } from 'node:http';

import { formatBytes } from '../base/bytes.ts';
import { InferkvError } from '../base/errors.ts';
import { SlabPool } from '../base/slab-pool.ts';

/** A request's body in memory that is used again after its release. */
export interface RequestBody {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Bytes of JSON in front of binary data; `undefined` where all of it is JSON. */
  readonly jsonLength: number | undefined;
  /** Gives the memory back, which must not be touched afterwards; a second call does nothing. */
  release(): void;
  /** Hands the bytes over to whoever calls, to be transferred to another thread; they stay charged until `release`. */
  surrender(): Uint8Array<ArrayBuffer>;
}

/** Bounds of what is read. */
export interface BodyLimits {
  /** Bytes of one body. */
  readonly maxBodyBytes: number;
  /** Bytes of all bodies that are in memory at one time. */
  readonly maxBufferedBytes: number;
}

const FIRST_CHUNKED_BYTES = 64 * 1024;
const ALIGNMENT = 8;
const MIN_FREED_BYTES = 16 * 1024;
const WHOLE_NUMBER = /^\d{1,15}$/;

/**
 * Reads bodies into memory that it uses again, so placed that the binary data behind the JSON lies where typed arrays can
 * view it. Bytes are charged to one budget before they are taken, so that no number of clients can ask for more.
 */
export class BodyReader {
  readonly #limits: BodyLimits;
  readonly #slabs = new SlabPool((bytes) => new ArrayBuffer(bytes));
  #bufferedBytes = 0;

  constructor(limits: BodyLimits) {
    this.#limits = limits;
  }

  /** Bytes of memory that bodies hold now. */
  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  /**
   * @throws InferkvError `ERR_INFERKV_BODY_TOO_LARGE`, `ERR_INFERKV_OVERLOADED`, `ERR_INFERKV_BODY_INVALID`, or
   * `ERR_INFERKV_ABORTED` when the sender leaves in the middle
   */
  async read(payload: IncomingMessage): Promise<RequestBody> {
    const { headers } = payload;
    const jsonLength = lengthIn(headers['inference-header-content-length'], 'Inference-Header-Content-Length');
    const declared = lengthIn(headers['content-length'], 'Content-Length');
    if (declared !== undefined) this.#assertAllowed(declared);
    const pad = (ALIGNMENT - ((jsonLength ?? 0) % ALIGNMENT)) % ALIGNMENT;
    let slab = this.#take(pad + (declared ?? FIRST_CHUNKED_BYTES));
    let end = pad;
    try {
      await drain(payload, (chunk) => {
        this.#assertAllowed(end - pad + chunk.byteLength);
        if (end + chunk.byteLength > slab.byteLength) slab = this.#grown(slab, end, end + chunk.byteLength);
        new Uint8Array(slab).set(chunk, end);
        end += chunk.byteLength;
        freeNow(chunk);
      });
    } catch (error) {
      this.#give(slab);
      throw error;
    }
    return this.#heldBody(slab, new Uint8Array(slab, pad, end - pad), jsonLength);
  }

  #heldBody(slab: ArrayBuffer, bytes: Uint8Array<ArrayBuffer>, jsonLength: number | undefined): RequestBody {
    const { byteLength } = slab;
    let state: 'held' | 'surrendered' | 'released' = 'held';
    return {
      bytes,
      jsonLength,
      surrender: () => {
        state = 'surrendered';
        return bytes;
      },
      release: () => {
        if (state === 'held') this.#slabs.give(slab);
        if (state !== 'released') this.#bufferedBytes -= byteLength;
        state = 'released';
      },
    };
  }

  #assertAllowed(bytes: number): void {
    const { maxBodyBytes } = this.#limits;
    if (bytes <= maxBodyBytes) return;
    throw new InferkvError(
      'ERR_INFERKV_BODY_TOO_LARGE',
      `The body is larger than the ${formatBytes(maxBodyBytes)} that this server takes; send less at once, or raise server.maxBodyBytes.`,
    );
  }

  #take(bytes: number): ArrayBuffer {
    const { maxBufferedBytes } = this.#limits;
    if (this.#bufferedBytes + this.#slabs.slabBytes(bytes) > maxBufferedBytes) {
      throw new InferkvError(
        'ERR_INFERKV_OVERLOADED',
        `Bodies of other requests fill the ${formatBytes(maxBufferedBytes)} that there are for them; try again later.`,
      );
    }
    const slab = this.#slabs.take(bytes);
    this.#bufferedBytes += slab.byteLength;
    return slab;
  }

  #give(slab: ArrayBuffer): void {
    this.#bufferedBytes -= slab.byteLength;
    this.#slabs.give(slab);
  }

  #grown(slab: ArrayBuffer, used: number, needed: number): ArrayBuffer {
    const larger = this.#take(Math.max(needed, 2 * slab.byteLength));
    new Uint8Array(larger).set(new Uint8Array(slab, 0, used));
    this.#give(slab);
    return larger;
  }
}

function lengthIn(header: string | string[] | undefined, name: string): number | undefined {
  if (header === undefined) return undefined;
  if (typeof header === 'string' && WHOLE_NUMBER.test(header)) return Number(header);
  throw new InferkvError('ERR_INFERKV_BODY_INVALID', `The header ${name} must be a number of bytes.`);
}

/** Hands on every chunk until the end; stops listening at the first error, also one of `take`. */
function drain(payload: IncomingMessage, take: (chunk: Buffer) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = (error?: unknown): void => {
      payload.off('data', onData).off('end', onEnd).off('error', onClose).off('close', onClose);
      // An error after this one is of no interest, but unheard it would end the process.
      payload.on('error', () => undefined);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onData = (chunk: Buffer): void => {
      try {
        take(chunk);
      } catch (error) {
        finish(error);
      }
    };
    const onClose = (cause?: unknown): void => {
      const message = 'The connection ended before the whole body was there.';
      finish(new InferkvError('ERR_INFERKV_ABORTED', message, { cause }));
    };
    const onEnd = (): void => finish();
    payload.on('data', onData).on('end', onEnd).on('error', onClose).on('close', onClose);
  });
}

/**
 * Frees the memory of a chunk that was copied. Left to the garbage collector, chunks of 64 KiB count as external memory
 * whose growth makes V8 collect the whole heap some thirty times a second (docs/design-decisions.md).
 */
function freeNow(chunk: Buffer): void {
  const { buffer, byteLength } = chunk;
  if (byteLength >= MIN_FREED_BYTES && byteLength === buffer.byteLength && buffer instanceof ArrayBuffer) {
    buffer.transfer(0);
  }
}
