import { FakeClock } from '../../src/base/clock.ts';
import { createRandom } from '../../src/base/random.ts';
import type { HeapPartitionOptions } from '../../src/cache/heap-options.ts';
import { HeapPartition } from '../../src/cache/heap-partition.ts';
import { createPolicy } from '../../src/policies/registry.ts';
import type { Box } from '../contracts/partition.ts';

/** A heap partition of boxes on a clock of its own, by `lru` unless the options say otherwise. */
export function heapBoxes(
  options: Partial<HeapPartitionOptions<Box>> & { readonly budgetBytes: number },
  policy = 'lru',
): HeapPartition<Box> {
  return new HeapPartition<Box>({
    name: 'test',
    policy: (context) => createPolicy(policy, context),
    clock: new FakeClock(),
    random: createRandom(1),
    ...options,
  });
}
