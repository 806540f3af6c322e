import { createHash } from 'node:crypto';

import { FakeClock, type Clock } from '../../src/base/clock.ts';
import { createRandom } from '../../src/base/random.ts';
import { createPolicy } from '../../src/policies/registry.ts';
import type { SlotPolicyFactory } from '../../src/stores/shared-memory/slot-policy.ts';
import { SharedMemoryStore, type SharedMemoryStoreOptions } from '../../src/stores/shared-memory/store.ts';

/** A key, by its number. */
export function digestOf(key: number): Uint8Array {
  return createHash('sha256').update(`key ${key}`).digest();
}

/** One of the shipped policies over the slots of a store. */
export function policyOf(name: string): SlotPolicyFactory {
  return (facts) => createPolicy(name, { ...facts, parent: () => -1, now: () => 0, random: () => 0 });
}

const salts = (): (() => number) => {
  const random = createRandom(1);
  return () => random.below(2 ** 31 - 1);
};

/** A store for tests: seeded, with a clock that stands still, and so many bytes of arena or a little less. */
export function storeOf(
  arenaBytes: number,
  options: Partial<SharedMemoryStoreOptions> & { readonly clock?: Clock } = {},
): SharedMemoryStore {
  const { maxEntries = 1024, maxThreads = 8 } = options;
  // Control memory comes out of the budget: see layoutOf.
  const controlBytes = 4 * (48 + 2 * 2 ** Math.ceil(Math.log2(2 * maxEntries)) + 16 * maxEntries + 2688 * maxThreads);
  return SharedMemoryStore.create({
    policy: policyOf('lru'),
    clock: new FakeClock(),
    seed: salts(),
    ...options,
    budgetBytes: arenaBytes + controlBytes,
    maxEntries,
    maxThreads,
  });
}

/** Fills bytes so that each of them tells which value it belongs to. */
export function fillPattern(bytes: Uint8Array, seed: number): void {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  for (let i = 0; i < words.length; i++) words[i] = patternWord(seed, i);
  for (let i = words.length * 4; i < bytes.length; i++) bytes[i] = patternWord(seed, i) & 0xff;
}

/** How many of the words and odd bytes at the end are not as `fillPattern` left them. */
export function countTorn(bytes: Uint8Array, seed: number): number {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
  let torn = 0;
  for (let i = 0; i < words.length; i++) if (words[i] !== patternWord(seed, i)) torn++;
  for (let i = words.length * 4; i < bytes.length; i++) if (bytes[i] !== (patternWord(seed, i) & 0xff)) torn++;
  return torn;
}

function patternWord(seed: number, at: number): number {
  return Math.imul(seed ^ Math.imul(at, 0x9e37_79b1), 0x85eb_ca77) | 0;
}

/** Four bytes of metadata that say by which seed a value was filled. */
export function seedBytes(seed: number): Uint8Array {
  return Uint8Array.of(seed, seed >> 8, seed >> 16, seed >> 24);
}

/** The seed in metadata. */
export function seedOf(metadata: Uint8Array): number {
  const [a = 0, b = 0, c = 0, d = 0] = metadata;
  return a | (b << 8) | (c << 16) | (d << 24);
}
