/** The what-ifs of a cache: which partitions have one, and who else listens to them. */
import { randomInt } from 'node:crypto';

import type { PartitionSettings } from './config/partitions.ts';
import { WHAT_IF_TIMES, type WhatIfSettings } from './config/what-if.ts';
import { LiveWhatIf, type LiveEstimates } from './simulator/what-if/live-what-if.ts';
import { severalListeners } from './telemetry/several-listeners.ts';
import type { UseListener } from './telemetry/use-listener.ts';

/** Partitions that can be followed. */
export type FollowedPartition = 'models' | 'results';

/** What caches of other sizes and policies would have given, by partition; only those that the settings name. */
export type WhatIfReport = Readonly<Partial<Record<FollowedPartition, LiveEstimates>>>;

const MAX_SEED = 2 ** 31;

/** Follows partitions with caches in miniature, where the settings ask for it. */
export class WhatIfs {
  readonly #live = new Map<FollowedPartition, LiveWhatIf>();
  readonly #others: ((partition: FollowedPartition) => UseListener | undefined) | undefined;

  /** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`, `ERR_INFERKV_POLICY_UNKNOWN` */
  constructor(
    settings: WhatIfSettings,
    partitions: Readonly<Record<FollowedPartition, PartitionSettings>>,
    others: ((partition: FollowedPartition) => UseListener | undefined) | undefined,
  ) {
    this.#others = others;
    for (const name of ['models', 'results'] as const) {
      const { [name]: wanted } = settings;
      if (wanted === undefined) continue;
      const { budgetBytes, policy, admission } = partitions[name];
      const own = admission === undefined ? policy : `${policy}+${admission}`;
      const { times = WHAT_IF_TIMES, policies = [own] } = wanted;
      const budgets = times.map((factor) => Math.max(1, Math.floor(factor * budgetBytes)));
      // Where keys come from strangers, they must not be able to choose the sample.
      this.#live.set(name, new LiveWhatIf({ budgets, policies, seed: randomInt(MAX_SEED) }));
    }
  }

  /** Who is told of the uses of a partition. */
  readonly listen = (partition: FollowedPartition): UseListener | undefined =>
    severalListeners([this.#live.get(partition), this.#others?.(partition)]);

  async report(): Promise<WhatIfReport> {
    const reports = [...this.#live].map(async ([name, live]) => [name, await live.estimates()] as const);
    return Object.fromEntries(await Promise.all(reports));
  }

  async close(): Promise<void> {
    for (const live of this.#live.values()) await live.close();
  }
}
