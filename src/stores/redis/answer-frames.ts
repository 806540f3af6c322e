/** Answers shorter than this go to the client as they came. */
const LONG_BYTES = 4096;
/** The socket's own memory, which is read into again and again. */
const READ_BYTES = 256 * 1024;
const CR_LF_BYTES = 2;
const MAX_BYTES = 512 * 2 ** 20 + CR_LF_BYTES;
const LF = 0x0a;

/**
 * Cuts what a server sends so that every long string comes to the client in one piece, in memory of its own.
 *
 * A socket gives pieces of 64 KB in new memory each, and the client copies a record together from two of them or more; here
 * the socket reads into the same memory always, and each record is copied out of it once. What is longer than that memory is read
 * where it belongs from then on. Nothing of the protocol is needed for that but lines, and that a line of `$` and a number
 * (also `=`, `!`) announces so many bytes. Bytes in, bytes out, in the same order: whatever else they say is the client's.
 *
 * Protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
 */
export class AnswerFrames {
  readonly #emit: (piece: Buffer) => void;
  readonly #refuse: (error: Error) => void;
  readonly #memory: Buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  /** The beginning of a line whose end is not there yet. */
  #line = '';
  /** Bytes of a short string that are still to come. */
  #passing = 0;
  /** A long string, and how much of it is there. */
  #body: Buffer | undefined;
  #filled = 0;

  /** `refuse` is called when a string is announced that is longer than Redis has any: then what comes is not from Redis, or not whole. */
  constructor(emit: (piece: Buffer) => void, refuse: (error: Error) => void) {
    this.#emit = emit;
    this.#refuse = refuse;
  }

  /** Where the socket is to read next. */
  target(): Buffer {
    const body = this.#body;
    return body !== undefined && body.length - this.#filled >= READ_BYTES ? body.subarray(this.#filled) : this.#memory;
  }

  /** Takes what was read into `target()`. */
  take(bytes: Buffer): void {
    let at = 0;
    let from = 0;
    while (at < bytes.length) {
      if (this.#body !== undefined) {
        at += this.#fill(this.#body, bytes.subarray(at));
        from = at;
      } else if (this.#passing > 0) {
        const step = Math.min(this.#passing, bytes.length - at);
        this.#passing -= step;
        at += step;
      } else {
        at = this.#takeLine(bytes, at);
        if (this.#body === undefined) continue;
        this.#pass(bytes.subarray(from, at));
        from = at;
      }
    }
    if (from < at) this.#pass(bytes.subarray(from, at));
  }

  /** Up to the end of the line, if that is there; what it announces comes next. */
  #takeLine(bytes: Buffer, at: number): number {
    const end = bytes.indexOf(LF, at);
    // More than 32 characters announce nothing, and need not be kept.
    if (this.#line.length < 32) {
      this.#line += bytes.toString('latin1', at, Math.min(end < 0 ? bytes.length : end, at + 32));
    }
    if (end < 0) return bytes.length;
    const announced = /^[$=!](\d{1,10})\r$/.exec(this.#line);
    this.#line = '';
    if (announced === null) return end + 1;
    const length = Number(announced[1]) + CR_LF_BYTES;
    if (length > MAX_BYTES) {
      this.#refuse(new Error(`an answer of ${length} bytes was announced`));
    } else if (length < LONG_BYTES) {
      this.#passing = length;
    } else {
      this.#body = Buffer.allocUnsafeSlow(length);
      this.#filled = 0;
    }
    return end + 1;
  }

  #fill(body: Buffer, bytes: Buffer): number {
    const step = Math.min(body.length - this.#filled, bytes.length);
    const isThere = bytes.buffer === body.buffer;
    if (!isThere) bytes.copy(body, this.#filled, 0, step);
    this.#filled += step;
    if (this.#filled === body.length) {
      this.#body = undefined;
      this.#emit(body);
    }
    return step;
  }

  #pass(bytes: Buffer): void {
    this.#emit(Buffer.from(bytes));
  }
}
