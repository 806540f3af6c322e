import type { Policy, PolicyContext } from './policy.ts';
import { SlotList } from './slot-list.ts';

/**
 * Evicts what was not used for the longest time.
 *
 * Source: Mattson et al., "Evaluation techniques for storage hierarchies", 1970, https://doi.org/10.1147/sj.92.0078
 */
export function lru(context: PolicyContext): Policy {
  const recency = new SlotList();
  return {
    name: 'lru',
    insert: (slot) => recency.unshift(slot),
    touch: (slot) => recency.refresh(slot),
    update: () => undefined,
    leave: (slot) => recency.remove(slot),
    victim() {
      // A pinned slot is in use this very moment, so it moves to the front; each is passed over once, not at every call.
      for (let looked = recency.length; looked > 0; looked--) {
        const { last } = recency;
        if (!context.isPinned(last)) return last;
        recency.refresh(last);
      }
      return -1;
    },
  };
}
