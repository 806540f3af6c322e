import { SlotHeap } from '../policies/slot-heap.ts';
import { NEVER, type ReferenceLog } from './reference-log.ts';

/**
 * The most hits that any cache of so many entries can have, all of one size: what is asked for again last is not kept, be
 * it the newcomer. Exact for single entries. Of chains each block counts by itself, whether its chain is whole or not, so
 * for them it is a bound from above, for budgets that hold the longest chain.
 *
 * Source: Belady, "A study of replacement algorithms for a virtual-storage computer", 1966, https://doi.org/10.1147/sj.52.0078
 */
export function mostHits(log: ReferenceLog, next: Uint32Array, entries: number): number {
  // Priorities are taken from the lowest: what is asked for last comes first.
  const kept = new SlotHeap();
  const isKept = new Uint8Array(log.different);
  const { ids } = log;
  let hits = 0;
  for (let at = 0; at < ids.length; at++) {
    const id = ids[at] ?? 0;
    const use = next[at] ?? NEVER;
    if (isKept[id] === 1) {
      hits++;
      if (use !== NEVER) kept.set(id, -use);
      else {
        kept.remove(id);
        isKept[id] = 0;
      }
      continue;
    }
    if (use === NEVER || entries < 1) continue;
    if (kept.length >= entries) {
      const last = kept.lowest;
      if (-kept.priorityOf(last) <= use) continue;
      kept.remove(last);
      isKept[last] = 0;
    }
    kept.set(id, -use);
    isKept[id] = 1;
  }
  return hits;
}
