import { createRandom } from '../../src/base/random.ts';
import type { SlotFacts, SlotPolicy } from '../../src/stores/shared-memory/slot-policy.ts';
import { SharedMemoryStore } from '../../src/stores/shared-memory/store.ts';
import { digestOf, policyOf } from '../../test/support/shared-memory.ts';

const ARENA_BYTES = 2 ** 30;
const MIN_BYTES = 4096;
const DOUBLINGS = 14;

/** How much of the arena is lost. */
export interface Waste {
  /** Share of the bytes taken that nobody asked for, the mean over all allocations that failed at first. */
  readonly mean: number;
  readonly max: number;
  readonly evictions: number;
  readonly displacements: number;
}

/**
 * Puts values of 4 KiB to 64 MiB (each doubling as likely as every other) into a full arena of 1 GiB. Whenever an allocation
 * fails, and so before each eviction, it counts what is lost: bytes that entries take beyond what was asked for, and, if the
 * free bytes together would have been enough, all of them, too. Of one allocation the worst such moment counts.
 */
export function measureWaste(puts: number): Waste {
  const random = createRandom(1);
  let askedBytes = 0;
  let takenBytes = 0;
  let incomingBytes = 0;
  let worst = 0;
  const asked = new Map<number, number>();
  let facts: SlotFacts | undefined;
  const watched = (slots: SlotFacts): SlotPolicy => {
    facts = slots;
    const policy = policyOf('lru')(slots);
    return {
      touch: (slot) => policy.touch(slot),
      victim: () => policy.victim(),
      insert(slot) {
        asked.set(slot, incomingBytes);
        askedBytes += incomingBytes;
        takenBytes += slots.sizeBytes(slot);
        policy.insert(slot);
      },
      leave(slot, why, cause) {
        const freeBytes = arenaBytes - takenBytes;
        const lostBytes = freeBytes >= incomingBytes ? freeBytes : 0;
        worst = Math.max(worst, (takenBytes + lostBytes - askedBytes) / (takenBytes + lostBytes));
        askedBytes -= asked.get(slot) ?? 0;
        takenBytes -= slots.sizeBytes(slot);
        policy.leave(slot, why, cause);
      },
    };
  };
  using store = SharedMemoryStore.create({
    budgetBytes: ARENA_BYTES,
    maxEntries: 16_384,
    maxThreads: 1,
    policy: watched,
    seed: () => random.below(2 ** 31 - 1),
  });
  const { arenaBytes } = store.stats();
  if (facts === undefined) throw new Error('The store has no policy.');
  const samples: number[] = [];
  for (let put = 0; put < puts; put++) {
    incomingBytes = Math.floor(MIN_BYTES * 2 ** (random.next() * DOUBLINGS));
    worst = 0;
    const before = store.stats().evictions;
    // Nothing is written, so the system need not find memory for it: the books are what is measured.
    if (!store.put(digestOf(put), { lengthBytes: incomingBytes, write: () => undefined }, { costMs: 1 })) {
      throw new Error('A value was refused although nothing is leased.');
    }
    if (store.stats().evictions > before) samples.push(worst);
  }
  const { evictions, displacements } = store.stats();
  return {
    mean: samples.reduce((sum, each) => sum + each, 0) / samples.length,
    max: Math.max(...samples),
    evictions,
    displacements,
  };
}
