import { z } from 'zod';

import { InferkvError } from '../base/errors.ts';
import { modelSettingsSchema } from '../models/model-settings.ts';

const bytes = z.union([z.number().positive(), z.string().min(1)]);

const partition = z.strictObject({
  /** Bytes, a size (`2GB`) or a share of the memory the process may use (`40%`). */
  budgetBytes: bytes.optional(),
  /** The name of an eviction policy. */
  policy: z.string().optional(),
});

/** What `createInferenceCache` takes, checked. */
export const inferenceCacheOptionsSchema = z.strictObject({
  repository: z.string().min(1).optional(),
  models: z.record(z.string(), modelSettingsSchema).optional(),
  partitions: z
    .strictObject({
      models: partition.extend({ keepAliveMs: z.number().nonnegative().optional() }).optional(),
      results: partition
        .extend({ ttlMs: z.number().nonnegative().optional(), maxEntryBytes: bytes.optional() })
        .optional(),
    })
    .optional(),
  recheckMs: z.number().nonnegative().optional(),
  seed: z.number().int().optional(),
  debug: z.boolean().optional(),
});

/** Options as they come out of the schema. */
export type CheckedOptions = z.output<typeof inferenceCacheOptionsSchema>;

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`, which names the path of each setting that is wrong */
export function checkOptions(options: unknown): CheckedOptions {
  const checked = inferenceCacheOptionsSchema.safeParse(options);
  if (checked.success) return checked.data;
  const faults = checked.error.issues.map(({ path, message }) => `${path.join('.') || 'options'}: ${message}`);
  throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `The options are not valid. ${faults.join('; ')}`, {
    cause: checked.error,
  });
}
