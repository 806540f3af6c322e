import { AssertionError } from 'node:assert';

/** Holds a programmer to a contract; the world's mistakes get an `InferkvError` instead. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError({ message: `inferkv invariant broken: ${message}` });
}
