import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import type { AdmissionFactory } from '../policies/admission.ts';
import type { PolicyFactory } from '../policies/policy.ts';
import type { UseListener, UseSampler } from '../telemetry/use-listener.ts';
import type { EntryWatcher } from './entry-watcher.ts';
import type { TenantLimits } from './tenants.ts';

/** What a heap partition is made of. */
export interface HeapPartitionOptions<V> extends TenantLimits {
  readonly name: string;
  readonly budgetBytes: number;
  readonly policy: PolicyFactory;
  /** Decides whether a newcomer may displace what the policy would evict for it; everything may if left out. */
  readonly admission?: AdmissionFactory | undefined;
  readonly clock: Clock;
  readonly random: Random;
  /** Values above this are served and not kept; the whole budget if left out. */
  readonly maxEntryBytes?: number | undefined;
  /** Milliseconds an entry lives unless its own facts say otherwise; `Infinity` if left out. */
  readonly ttlMs?: number | undefined;
  /**
   * Frees what a value holds on to, once it has left and nobody leases it; its bytes come back when this is done. It may
   * call the partition: its own entry is gone by then. What leaves by such a call is freed after it.
   */
  readonly free?: (value: V) => void | Promise<void>;
  /** Is told of entries that leave, and of those that are used often. */
  readonly watcher?: EntryWatcher | undefined;
  /** Is told of every use, one by one. */
  readonly listener?: UseListener | undefined;
  /** Is told of uses in batches, of hits when the policy is. */
  readonly sampler?: UseSampler | undefined;
}
