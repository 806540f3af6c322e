import type { Clock } from '../base/clock.ts';
import type { Random } from '../base/random.ts';
import type { AdmissionFactory } from '../policies/admission.ts';
import type { PolicyFactory } from '../policies/policy.ts';
import type { UseListener } from '../telemetry/use-listener.ts';
import type { EntryWatcher } from './entry-watcher.ts';
import type { TenantLimits } from './tenants.ts';
import type { ValueCodec } from './value-codec.ts';

/** What a partition in shared memory is made of. */
export interface SharedPartitionOptions<V> extends TenantLimits {
  readonly name: string;
  /** Bytes of shared memory in all: values, what lies with them, records, index and the areas of threads. */
  readonly budgetBytes: number;
  readonly codec: ValueCodec<V>;
  readonly policy: PolicyFactory;
  /** Decides whether a newcomer may displace what the policy would evict for it; everything may if left out. */
  readonly admission?: AdmissionFactory | undefined;
  readonly clock: Clock;
  readonly random: Random;
  /** Values above this are served and not kept; the whole budget if left out. */
  readonly maxEntryBytes?: number | undefined;
  /** Milliseconds an entry lives unless its own facts say otherwise; `Infinity` if left out. */
  readonly ttlMs?: number | undefined;
  /** Entries there is a record for; one for 4 KiB of the budget if left out, at least 256. */
  readonly maxEntries?: number | undefined;
  /** Threads that may be attached at a time, the owner included; 32 if left out. */
  readonly maxThreads?: number | undefined;
  /** Overwrites memory that has become free with this byte, so that reading after release shows; for debugging. */
  readonly fillByte?: number | undefined;
  /** Told of values that were served and not kept, once nobody leases them. */
  readonly free?: ((value: V) => void) | undefined;
  /** Is told of entries that leave, and of those that are used often, by whatever thread; keys are digests in hex. */
  readonly watcher?: EntryWatcher | undefined;
  /** Is told of every use by the thread that made it. */
  readonly listener?: UseListener | undefined;
}
