/** A value as it is written into memory: one run of bytes, and what must be known to read it again. */
export interface EncodedValue {
  readonly lengthBytes: number;
  /** Types and shapes, say; no more than some hundred bytes if it can be helped. */
  readonly metadata: Uint8Array;
  /** Writes all of the value. */
  write(into: Uint8Array): void;
}

/** Turns values into bytes and back. */
export interface ValueCodec<V> {
  /** Measures the value; nothing is copied before `write`. */
  encode(value: V): EncodedValue;
  /**
   * The value over these very bytes, which begin at a multiple of 64; what can be frozen is frozen.
   *
   * @throws InferkvError `ERR_INFERKV_INPUT_INVALID` for bytes that `encode` did not make
   */
  decode(bytes: Uint8Array, metadata: Uint8Array): V;
}
