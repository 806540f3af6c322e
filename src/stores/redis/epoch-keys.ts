import type { RedisClient } from './client.ts';

/** The two keys of an authority: numbers, and the stream of changes. In a Cluster they have one slot. */
export interface EpochKeys {
  readonly numbers: string;
  readonly stream: string;
}

/**
 * Makes the base of an authority that has none, or another in place of `replaced`, above all numbers that are known. The base comes back.
 */
export function startAuthority(
  client: RedisClient,
  { numbers }: EpochKeys,
  wallMs: number,
  replaced = '',
  greatest = 0,
): Promise<unknown> {
  return client.inferkvBase(numbers, wallUs(wallMs), replaced, String(greatest));
}

/** Milliseconds as the scripts take them: microseconds in digits. */
export function wallUs(wallMs: number): string {
  return (wallMs * 1000).toFixed(0);
}
