type Numbers = Uint8Array | Uint32Array | Int32Array | Float64Array;

/** The same numbers in an array of another length, zeros behind them. */
export function grown<T extends Numbers>(numbers: T, length: number): T {
  const larger = new (numbers.constructor as new (length: number) => T)(length);
  larger.set(numbers);
  return larger;
}
