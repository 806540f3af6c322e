/** What-ifs by configuration: which partitions have one, of what budgets and policies. */
import { randomInt } from 'node:crypto';

import { InferkvError } from './base/errors.ts';
import type { PartitionSettings } from './config/partitions.ts';
import type { WhatIfSettings } from './config/schema.ts';
import { bytesOfSetting } from './config/sizes.ts';
import { createWhatIf, type WhatIf, type WhatIfEstimate } from './simulator/what-if/what-if.ts';

/** Partitions whose uses can be listened to. */
export type ListenedPartition = 'models' | 'results';

/** What other caches would give in the place of a partition's. */
export interface WhatIfReport {
  readonly partition: ListenedPartition;
  /** What the partition is now. */
  readonly policy: string;
  readonly budgetBytes: number;
  /** Budgets within policies. */
  readonly estimates: readonly WhatIfEstimate[];
  /** Uses that were not counted, as the thread that replays lagged behind. */
  readonly dropped: number;
}

const DEFAULT_SIZES = ['50%', '100%', '200%', '400%'];
const SEEDS = 2 ** 31;

/** The what-ifs of a cache; none unless the configuration asks for them. */
export class WhatIfs {
  readonly #byPartition = new Map<
    ListenedPartition,
    { readonly whatIf: WhatIf; readonly settings: PartitionSettings }
  >();

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`, `ERR_INFERKV_POLICY_UNKNOWN` */
  constructor(asked: WhatIfSettings | undefined, partitions: Readonly<Record<ListenedPartition, PartitionSettings>>) {
    if (asked === undefined) return;
    for (const name of asked.partitions ?? ['results']) {
      const settings = partitions[name];
      const { policy, admission, budgetBytes } = settings;
      const own = admission === undefined ? policy : `${policy}+${admission}`;
      const whatIf = createWhatIf({
        budgets: (asked.sizes ?? DEFAULT_SIZES).map((size) => sizeOf(size, budgetBytes)),
        policies: asked.policies ?? [own],
        // Nobody should know which keys are in the sample.
        seed: randomInt(SEEDS),
        ...(asked.minTrackedKeys !== undefined && { minTrackedKeys: asked.minTrackedKeys }),
      });
      this.#byPartition.set(name, { whatIf, settings: { ...settings, policy: own } });
    }
  }

  /** The one that listens to a partition, if any. */
  of(partition: ListenedPartition): WhatIf | undefined {
    return this.#byPartition.get(partition)?.whatIf;
  }

  /** @throws InferkvError `ERR_INFERKV_WHAT_IF_OFF`, `ERR_INFERKV_WORKER_LOST` */
  async reports(): Promise<readonly WhatIfReport[]> {
    if (this.#byPartition.size === 0) {
      throw new InferkvError(
        'ERR_INFERKV_WHAT_IF_OFF',
        "The what-if is off; set whatIf in the configuration: whatIf: { sizes: ['100%', '200%'], policies: ['lru', 'arc'] }.",
      );
    }
    return Promise.all(
      [...this.#byPartition].map(
        async ([
          partition,
          {
            whatIf,
            settings: { policy, budgetBytes },
          },
        ]) => ({
          partition,
          policy,
          budgetBytes,
          estimates: await whatIf.estimates(),
          dropped: whatIf.dropped,
        }),
      ),
    );
  }

  async close(): Promise<void> {
    for (const { whatIf } of this.#byPartition.values()) await whatIf.close();
  }
}

/** Shares above the whole are what this is for, so they are not taken as those of a budget are. */
function sizeOf(size: number | string, ofBytes: number): number {
  const share =
    typeof size === 'string' ? /^(?<percent>\d+(\.\d+)?)%$/.exec(size.trim())?.groups?.['percent'] : undefined;
  if (share !== undefined && Number(share) > 0) return Math.max(1, Math.floor((Number(share) / 100) * ofBytes));
  return bytesOfSetting('whatIf.sizes', size, ofBytes);
}
