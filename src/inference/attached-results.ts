import type { Tensors } from '../base/tensor.ts';
import { AttachedPartition } from '../cache/attached-partition.ts';
import type { SharedPartitionHandle } from '../cache/shared-messages.ts';
import { tensorCodec } from '../cache/tensor-codec.ts';

/** Results as a worker thread has them: leased where they lie, without asking the thread that has the cache. */
export type AttachedResults = AttachedPartition<Tensors>;

/**
 * Attaches this thread to the results of a cache, given what its `handle('results')` gave. A key is what `cache.key` of an
 * answer says, or `requestKey` of a model's `modelKey()`.
 *
 * @throws InferkvError `ERR_INFERKV_HANDLE_INVALID`, `ERR_INFERKV_CLOSED`, `ERR_INFERKV_OVERLOADED` if 31 threads are attached
 */
export function attachResults(handle: SharedPartitionHandle): AttachedResults {
  return new AttachedPartition(handle, tensorCodec);
}
