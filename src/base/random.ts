/** A seeded source of randomness: every sampling decision can be replayed from its seed. */
export interface Random {
  /** The next number, uniform in [0, 1), with 32 bits. */
  next(): number;
  /** The next whole number, uniform in [0, bound). */
  below(bound: number): number;
}

/**
 * A random source that follows from `seed` alone: mulberry32, fast and good enough for sampling, never for secrets.
 *
 * Source: Tommy Ettinger, 2017, public domain.
 */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
  return { next, below: (bound) => Math.floor(next() * bound) };
}
