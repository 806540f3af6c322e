import { z } from 'zod';

import { InferkvError } from '../base/errors.ts';
import { modelSettingsSchema, type ModelSettings } from '../models/model-settings.ts';
import { partitionTiersSchema, tiersSchema, type PartitionTiers, type TierSettings } from './tiers.ts';
import { serverSchema, type ServerOptions } from './server-settings.ts';

const bytes = z.union([z.number().positive(), z.string().min(1)]);
const milliseconds = z.number().nonnegative();

const partition = z.strictObject({
  budgetBytes: bytes.optional(),
  policy: z.string().optional(),
  admission: z.string().optional(),
  ttlMs: milliseconds.optional(),
  maxEntryBytes: bytes.optional(),
  maxTenantBytes: bytes.optional(),
  quotas: z.record(z.string(), bytes).optional(),
});

const cacheFields = {
  repository: z.string().min(1).optional(),
  models: z.record(z.string(), modelSettingsSchema).optional(),
  budgetBytes: bytes.optional(),
  partitions: z
    .strictObject({
      models: partition.extend({ keepAliveMs: milliseconds.optional() }).optional(),
      parameters: partition.optional(),
      results: partition.extend({ storage: z.enum(['heap', 'shared']).optional(), ...partitionTiersSchema }).optional(),
      activations: partition.optional(),
      attention: partition.optional(),
    })
    .optional(),
  tiers: tiersSchema.optional(),
  maxStaleMs: milliseconds.optional(),
  singleFlight: z.enum(['auto', 'off']).optional(),
  recheckMs: milliseconds.optional(),
  seed: z.number().int().optional(),
  debug: z.boolean().optional(),
  whatIf: z
    .strictObject({
      partitions: z
        .array(z.enum(['models', 'results']))
        .nonempty()
        .optional(),
      sizes: z.array(bytes).nonempty().optional(),
      policies: z.array(z.string().min(1)).nonempty().optional(),
      minTrackedKeys: z.number().int().optional(),
    })
    .optional(),
};

const inferenceCacheOptionsSchema: z.ZodType<CheckedOptions> = z.strictObject(cacheFields);

const configSchema: z.ZodType<InferkvConfig> = z.strictObject({ ...cacheFields, server: serverSchema.optional() });

/** Settings of one partition, checked. */
export interface CheckedPartition {
  /** Bytes, a size (`2GB`) or a share of the total (`40%`). */
  readonly budgetBytes?: number | string | undefined;
  /** The name of an eviction policy. */
  readonly policy?: string | undefined;
  /** The name of an admission; everything is let in if left out. */
  readonly admission?: string | undefined;
  /** Milliseconds an entry lives; for ever if left out. */
  readonly ttlMs?: number | undefined;
  /** Values above this are served and not kept; a share is of the partition. */
  readonly maxEntryBytes?: number | string | undefined;
  /** What each tenant may take of the partition; all of it if left out. */
  readonly maxTenantBytes?: number | string | undefined;
  /** What single tenants may take, by their name. */
  readonly quotas?: Readonly<Record<string, number | string>> | undefined;
}

/** Options of `createInferenceCache`, checked. */
export interface CheckedOptions {
  readonly repository?: string | undefined;
  readonly models?: Readonly<Record<string, ModelSettings>> | undefined;
  /** All partitions together: bytes, a size, or a share of the memory the process may use; all of that if left out. */
  readonly budgetBytes?: number | string | undefined;
  readonly partitions?:
    | {
        readonly models?: (CheckedPartition & { readonly keepAliveMs?: number | undefined }) | undefined;
        readonly parameters?: CheckedPartition | undefined;
        readonly results?:
          | (CheckedPartition &
              PartitionTiers & {
                /** `heap`: JavaScript memory of the main thread; `shared`: memory that all threads see. */
                readonly storage?: 'heap' | 'shared' | undefined;
              })
          | undefined;
        readonly activations?: CheckedPartition | undefined;
        readonly attention?: CheckedPartition | undefined;
      }
    | undefined;
  /** What lies below memory, by name; nothing if left out. */
  readonly tiers?: Readonly<Record<string, TierSettings>> | undefined;
  readonly maxStaleMs?: number | undefined;
  readonly singleFlight?: 'auto' | 'off' | undefined;
  readonly recheckMs?: number | undefined;
  readonly seed?: number | undefined;
  readonly debug?: boolean | undefined;
  readonly whatIf?: WhatIfSettings | undefined;
}

/** Which other caches to imagine while traffic runs; nothing is imagined where it is left out. */
export interface WhatIfSettings {
  /** For which partitions; `results` if left out. */
  readonly partitions?: readonly ('models' | 'results')[] | undefined;
  /** Budgets: bytes, a size (`2GB`), or a share of the partition's own (`200%`); half, the same, twice and four times if left out. */
  readonly sizes?: readonly (number | string)[] | undefined;
  /** Policies, `lru+tinylfu` for one with an admission; the partition's own if left out. */
  readonly policies?: readonly string[] | undefined;
  /** Keys that the sample follows at least; 2,000 if left out. */
  readonly minTrackedKeys?: number | undefined;
}

/** What a configuration file holds: the options of a cache, and those of its server. */
export interface InferkvConfig extends CheckedOptions {
  readonly server?: ServerOptions | undefined;
}

/** Gives back what it is given; in `inferkv.config.ts` it brings types and completion. */
export function defineConfig(config: InferkvConfig): InferkvConfig {
  return config;
}

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`, which names the path of each setting that is wrong */
export function checkOptions(options: unknown): CheckedOptions {
  return check(inferenceCacheOptionsSchema, options, 'The options are not valid');
}

/** As `checkOptions`, for a server. */
export function checkServerOptions(options: unknown): ServerOptions {
  return check(serverSchema, options, 'The options of the server are not valid');
}

/** As `checkOptions`, for a whole configuration. */
export function checkConfig(config: unknown, whose: string): InferkvConfig {
  return check(configSchema, config, `${whose} is not valid`);
}

function check<T>(schema: z.ZodType<T>, candidate: unknown, fault: string): T {
  const checked = schema.safeParse(candidate);
  if (checked.success) return checked.data;
  const faults = checked.error.issues.map(({ path, message }) => `${path.join('.') || 'options'}: ${message}`);
  throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `${fault}. ${faults.join('; ')}`, { cause: checked.error });
}
