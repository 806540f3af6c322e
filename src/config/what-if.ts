import { z } from 'zod';

/** What to imagine of one partition. */
export interface WhatIfPartition {
  /** Budgets, as multiples of the partition's own; `[0.5, 1, 2, 4]` if left out. */
  readonly times?: readonly number[] | undefined;
  /** Policies by name, `lru+tinylfu` with an admission; the partition's own if left out. */
  readonly policies?: readonly string[] | undefined;
}

/** Which partitions are followed by caches of other sizes and policies in miniature (docs/what-if.md). */
export interface WhatIfSettings {
  readonly models?: WhatIfPartition | undefined;
  readonly results?: WhatIfPartition | undefined;
}

const partition = z.strictObject({
  times: z.array(z.number().positive().max(1024)).min(1).max(16).optional(),
  policies: z.array(z.string().min(1)).min(1).max(16).optional(),
});

export const whatIfSchema: z.ZodType<WhatIfSettings> = z.strictObject({
  models: partition.optional(),
  results: partition.optional(),
});

/** Budgets that are imagined where nobody says anything. */
export const WHAT_IF_TIMES: readonly number[] = [0.5, 1, 2, 4];
