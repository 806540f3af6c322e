import type { Policy, PolicyContext } from './policy.ts';
import { SlotHeap } from './slot-heap.ts';

/** What an entry is worth beyond the age of the cache, given how often it was used. */
export type Worth = (slot: number, uses: number) => number;

/**
 * The frame of the GreedyDual family: an entry's priority is the cache's age at its last use plus its worth; the lowest
 * leaves, and the age rises to its priority, so that what is no longer used is overtaken in time.
 *
 * Source: Cao and Irani, "Cost-aware WWW proxy caching algorithms", USENIX 1997,
 * https://www.usenix.org/conference/usits-97/cost-aware-www-proxy-caching-algorithms
 */
export function greedyDual(name: string, context: PolicyContext, worth: Worth): Policy {
  const heap = new SlotHeap();
  const uses: number[] = [];
  let age = 0;
  const rank = (slot: number): void => heap.set(slot, age + worth(slot, uses[slot] ?? 1));
  return {
    name,
    insert(slot) {
      uses[slot] = 1;
      rank(slot);
    },
    touch(slot) {
      uses[slot] = (uses[slot] ?? 0) + 1;
      rank(slot);
    },
    update: rank,
    leave(slot, why) {
      if (why === 'evicted') age = Math.max(age, heap.priorityOf(slot));
      heap.remove(slot);
    },
    victim() {
      const passedOver: number[] = [];
      while (heap.length > 0 && context.isPinned(heap.lowest)) {
        passedOver.push(heap.lowest);
        heap.remove(heap.lowest);
      }
      const victim = heap.lowest;
      for (const slot of passedOver) heap.restore(slot);
      return victim;
    },
  };
}
