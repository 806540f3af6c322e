import { InferkvError } from './errors.ts';

/** A value of settings or parameters. Fields that are `undefined` count as left out. */
export type PlainValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly PlainValue[]
  | { readonly [name: string]: PlainValue | undefined };

const MAX_DEPTH = 32;
const FIRST_BYTES = 1024;

const TAG = { null: 0, false: 1, true: 2, number: 3, text: 4, list: 5, record: 6, bigint: 7 } as const;

const utf8 = new TextEncoder();

/**
 * Writes values as bytes from which they can be told apart without fail: every text and every list is preceded by its
 * length, every value by its kind. Numbers are little-endian. One writer can be used again and again.
 */
export class CanonicalWriter {
  #bytes = new Uint8Array(FIRST_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  /** Bytes written since the last `clear`. */
  get length(): number {
    return this.#length;
  }

  /** A view of what was written; good until the next write. */
  get written(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  clear(): void {
    this.#length = 0;
  }

  u8(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  u32(value: number): void {
    this.#reserve(4);
    this.#view.setUint32(this.#length, value, true);
    this.#length += 4;
  }

  /** A length, a dimension: a safe whole number from 0 up, in 64 bits. */
  u64(value: number): void {
    this.u32(value >>> 0);
    this.u32(Math.floor(value / 2 ** 32));
  }

  f64(value: number): void {
    this.#reserve(8);
    this.#view.setFloat64(this.#length, value, true);
    this.#length += 8;
  }

  /** Bytes as they are, without a length. */
  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.byteLength);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.byteLength;
  }

  /**
   * Text as UTF-8 after its length in bytes.
   *
   * @throws InferkvError `ERR_INFERKV_INPUT_INVALID` for lone surrogates, which UTF-8 cannot tell apart
   */
  text(value: string): void {
    if (!value.isWellFormed()) {
      throw new InferkvError(
        'ERR_INFERKV_INPUT_INVALID',
        'A text holds half a surrogate pair, so it is no valid Unicode.',
      );
    }
    // At most three bytes a UTF-16 code unit.
    this.#reserve(8 + 3 * value.length);
    const { written } = utf8.encodeInto(value, this.#bytes.subarray(this.#length + 8));
    this.u64(written);
    this.#length += written;
  }

  /**
   * Any plain value, its kind first; records with their fields in the order of their names (by UTF-16 code units).
   *
   * @throws InferkvError `ERR_INFERKV_INPUT_INVALID` for functions, symbols, class instances, and beyond 32 levels
   */
  plain(value: unknown, depth = 0): void {
    if (depth > MAX_DEPTH) {
      throw new InferkvError(
        'ERR_INFERKV_INPUT_INVALID',
        `A setting or parameter is nested deeper than ${MAX_DEPTH} levels, or in itself.`,
      );
    }
    switch (typeof value) {
      case 'boolean':
        return this.u8(value ? TAG.true : TAG.false);
      case 'number':
        this.u8(TAG.number);
        // One bit pattern for what is one number to JavaScript's users: -0 is 0, and there is one NaN.
        return this.f64(Number.isNaN(value) ? Number.NaN : value + 0);
      case 'bigint':
        this.u8(TAG.bigint);
        return this.text(value.toString());
      case 'string':
        this.u8(TAG.text);
        return this.text(value);
      case 'object':
        return this.#object(value, depth);
      default:
        throw new InferkvError(
          'ERR_INFERKV_INPUT_INVALID',
          `A setting or parameter is of the kind ${typeof value}, which has no canonical form.`,
        );
    }
  }

  #object(value: object | null, depth: number): void {
    if (value === null) return this.u8(TAG.null);
    if (Array.isArray(value)) {
      this.u8(TAG.list);
      this.u64(value.length);
      for (const each of value) this.plain(each ?? null, depth + 1);
      return undefined;
    }
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) {
      throw new InferkvError(
        'ERR_INFERKV_INPUT_INVALID',
        'A setting or parameter is an instance of a class; give plain values.',
      );
    }
    const fields = Object.entries(value)
      .filter(([, each]) => each !== undefined)
      .toSorted(([a], [b]) => (a < b ? -1 : 1));
    this.u8(TAG.record);
    this.u64(fields.length);
    for (const [name, each] of fields) {
      this.text(name);
      this.plain(each, depth + 1);
    }
    return undefined;
  }

  #reserve(more: number): void {
    const needed = this.#length + more;
    if (needed <= this.#bytes.byteLength) return;
    const grown = new Uint8Array(Math.max(needed, 2 * this.#bytes.byteLength));
    grown.set(this.written);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}
