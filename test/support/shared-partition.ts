import type { Clock } from '../../src/base/clock.ts';
import { createRandom } from '../../src/base/random.ts';
import type { SharedPartitionOptions } from '../../src/cache/shared-options.ts';
import { SharedPartition } from '../../src/cache/shared-partition.ts';
import { createPolicy } from '../../src/policies/registry.ts';
import { layoutOf, UNIT_BYTES } from '../../src/stores/shared-memory/layout.ts';
import type { Box, PartitionSetup } from '../contracts/partition.ts';
import { boxCodec } from './box-codec.ts';

const MAX_ENTRIES = 2048;
const MAX_THREADS = 8;

/** A partition of boxes in shared memory, with so many bytes for entries. */
export function sharedBoxes(
  policy: string,
  setup: Omit<PartitionSetup, 'clock'> & Partial<SharedPartitionOptions<Box>> & { readonly clock: Clock },
): SharedPartition<Box> {
  const { controlBytes } = layoutOf({ maxEntries: MAX_ENTRIES, maxThreads: MAX_THREADS });
  return new SharedPartition<Box>({
    name: 'test',
    codec: boxCodec,
    policy: (context) => createPolicy(policy, context),
    random: createRandom(1),
    maxEntries: MAX_ENTRIES,
    maxThreads: MAX_THREADS,
    ...setup,
    // The first unit of the segment belongs to the store.
    budgetBytes: setup.budgetBytes + controlBytes + UNIT_BYTES,
  });
}
