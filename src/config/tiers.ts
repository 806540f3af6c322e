import { z } from 'zod';

import { InferkvError } from '../base/errors.ts';
import type { RedisStoreOptions } from '../stores/redis/index.ts';
import type { Store } from '../stores/store.ts';

const bytes = z.union([z.number().positive(), z.string().min(1)]);
const milliseconds = z.number().nonnegative();
const count = z.number().int().positive();

const signingKey = z.strictObject({
  id: z.number().int().min(1).max(0xffff_ffff),
  secret: z.union([
    z.string().min(16),
    z.instanceof(Uint8Array).refine(({ length }) => length >= 16, 'must be 16 bytes or more'),
  ]),
});

const writeBack = z.strictObject({
  durability: z.enum(['none', 'interval', 'every']).optional(),
  folder: z.string().min(1).optional(),
  syncMs: count.optional(),
  maxDirtyBytes: bytes.optional(),
  maxAgeMs: milliseconds.optional(),
  waitMs: milliseconds.optional(),
  whenFull: z.enum(['through', 'drop']).optional(),
});

const common = {
  deadlineMs: z.number().positive().optional(),
  writeDeadlineMs: z.number().positive().optional(),
  maxConcurrent: count.optional(),
  maxQueued: z.number().int().nonnegative().optional(),
  signingKeys: z
    .union([
      z.literal(false),
      z
        .array(signingKey)
        .min(1)
        .refine((keys) => new Set(keys.map(({ id }) => id)).size === keys.length, 'have an id twice'),
    ])
    .optional(),
  maxRecordBytes: bytes.optional(),
  back: writeBack.optional(),
};

const address = z.strictObject({ host: z.string().min(1), port: z.number().int().min(1).max(65_535) });
const tls = z.union([z.boolean(), z.record(z.string(), z.unknown())]);

const disk = z.strictObject({
  store: z.literal('disk'),
  folder: z.string().min(1),
  budgetBytes: bytes.optional(),
  durability: z.enum(['none', 'data']).optional(),
  ...common,
});

const redis = z.strictObject({
  store: z.literal('redis'),
  url: z.string().min(1).optional(),
  host: z.string().min(1).optional(),
  port: z.number().int().min(1).max(65_535).optional(),
  path: z.string().min(1).optional(),
  sentinels: z.array(address).min(1).optional(),
  masterName: z.string().min(1).optional(),
  sentinelUsername: z.string().optional(),
  sentinelPassword: z.string().optional(),
  sentinelTls: tls.optional(),
  cluster: z.array(address).min(1).optional(),
  natMap: z.record(z.string(), address).optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  db: z.number().int().nonnegative().optional(),
  tls: tls.optional(),
  keyPrefix: z.string().optional(),
  connectTimeoutMs: count.optional(),
  silenceMs: count.optional(),
  epochBacklog: count.optional(),
  heartbeatMs: count.optional(),
  ...common,
});

const memcached = z.strictObject({
  store: z.literal('memcached'),
  servers: z.array(z.string().min(1)).min(1).optional(),
  sasl: z.strictObject({ username: z.string(), password: z.string() }).optional(),
  silenceMs: count.optional(),
  prefix: z.string().optional(),
  maxItemBytes: bytes.optional(),
  ...common,
});

const dynamodb = z.strictObject({
  store: z.literal('dynamodb'),
  table: z.string().min(1),
  region: z.string().min(1).optional(),
  endpoint: z.string().min(1).optional(),
  prefix: z.string().optional(),
  consistentReads: z.boolean().optional(),
  maxAgeMs: count.optional(),
  sdkOptions: z.record(z.string(), z.unknown()).optional(),
  ...common,
});

const sharedMemory = z.strictObject({ store: z.literal('shared-memory'), budgetBytes: bytes, ...common });

const ownStore = z.strictObject({
  store: z.custom<Store>((candidate) => typeof (candidate as Partial<Store> | null)?.getMany === 'function', {
    error: 'must be the name of a store (disk, redis, memcached, dynamodb, shared-memory), or a store itself',
  }),
  ...common,
});

/** Settings of the tiers, by the names that partitions use them by; the nearest first. */
export const tiersSchema: z.ZodType<Readonly<Record<string, TierSettings>>> = z.record(
  z.string().regex(/^[a-z][a-z0-9-]{0,31}$/i, 'is no name of a tier: letters, digits and hyphens, 32 at most'),
  z.union([disk, redis, memcached, dynamodb, sharedMemory, ownStore]),
) as unknown as z.ZodType<Readonly<Record<string, TierSettings>>>;

/** How a partition uses its tiers. */
export const partitionTiersSchema: {
  readonly tiers: z.ZodOptional<z.ZodType<readonly (string | PartitionTier)[]>>;
  readonly write: z.ZodOptional<z.ZodEnum<{ through: 'through'; around: 'around' }>>;
  readonly promotion: z.ZodOptional<z.ZodEnum<{ always: 'always'; never: 'never' }>>;
} = {
  tiers: z
    .array(
      z.union([
        z.string(),
        z.strictObject({
          tier: z.string(),
          write: z.enum(['through', 'back', 'around']).optional(),
          promotion: z.enum(['always', 'second-hit', 'never']).optional(),
          minUses: count.optional(),
          minCostMs: milliseconds.optional(),
        }),
      ]),
    )
    .optional(),
  write: z.enum(['through', 'around']).optional(),
  promotion: z.enum(['always', 'never']).optional(),
};

/** A secret that records are signed with; the first of a list signs, all are believed (docs/record.md). */
export interface SigningKeySetting {
  /** 1 to 2^32 - 1. */
  readonly id: number;
  /** 16 characters or bytes, or more. */
  readonly secret: string | Uint8Array;
}

/** How writes are held back where a partition writes `back` to a tier. */
export interface WriteBackSettings {
  /** `none`, `interval` or `every` (docs/stores/journal.md); `interval` if there is a folder, else `none`. */
  readonly durability?: 'none' | 'interval' | 'every' | undefined;
  /** Where the journal lies; needed unless `durability` is `none`. */
  readonly folder?: string | undefined;
  /** Milliseconds between syncs with `interval`; 1,000 if left out. */
  readonly syncMs?: number | undefined;
  /** Bytes that may be acknowledged and not written; 64 MiB if left out. */
  readonly maxDirtyBytes?: number | string | undefined;
  /** Milliseconds after which a write is on its way at the latest; 5,000 if left out. */
  readonly maxAgeMs?: number | undefined;
  /** Milliseconds that a writer waits for room; 100 if left out. */
  readonly waitMs?: number | undefined;
  /** What becomes of a write that finds none; `through` if left out. */
  readonly whenFull?: 'through' | 'drop' | undefined;
}

/** What holds for any tier. */
export interface TierCommon {
  /** Milliseconds that a read may take; 1,000 if left out. */
  readonly deadlineMs?: number | undefined;
  /** Milliseconds that a write may take; 5,000 if left out. */
  readonly writeDeadlineMs?: number | undefined;
  /** Calls at a time; 64 if left out. */
  readonly maxConcurrent?: number | undefined;
  /** Calls that wait for their turn; 1,024 if left out. */
  readonly maxQueued?: number | undefined;
  /** Keys that records are signed by. Stores on the network need them, unless this is `false`: then whoever can write there is believed. */
  readonly signingKeys?: false | readonly SigningKeySetting[] | undefined;
  /** The longest record; what the store can take if left out. */
  readonly maxRecordBytes?: number | string | undefined;
  readonly back?: WriteBackSettings | undefined;
}

/** A tier: one of the stores with its own settings (docs/stores.md), or a store of the caller's. */
export type TierSettings = TierCommon &
  (
    | {
        readonly store: 'disk';
        readonly folder: string;
        /** 10 GB if left out. */
        readonly budgetBytes?: number | string | undefined;
        readonly durability?: 'none' | 'data' | undefined;
      }
    | ({ readonly store: 'redis' } & Omit<
        RedisStoreOptions,
        'name' | 'maxRecordBytes' | 'maxPendingCalls' | 'maxPendingBytes' | 'clock' | 'wallClock' | 'random'
      >)
    | {
        readonly store: 'memcached';
        readonly servers?: readonly string[] | undefined;
        readonly sasl?: { readonly username: string; readonly password: string } | undefined;
        readonly silenceMs?: number | undefined;
        readonly prefix?: string | undefined;
        readonly maxItemBytes?: number | string | undefined;
      }
    | {
        readonly store: 'dynamodb';
        readonly table: string;
        readonly region?: string | undefined;
        readonly endpoint?: string | undefined;
        readonly prefix?: string | undefined;
        readonly consistentReads?: boolean | undefined;
        readonly maxAgeMs?: number | undefined;
        readonly sdkOptions?: Readonly<Record<string, unknown>> | undefined;
      }
    | { readonly store: 'shared-memory'; readonly budgetBytes: number | string }
    | { readonly store: Store }
  );

/** How a partition uses one tier. */
export interface PartitionTier {
  /** Its name in `tiers`. */
  readonly tier: string;
  /** `through`, `back` or `around` (docs/tiers.md); `through` if left out. */
  readonly write?: 'through' | 'back' | 'around' | undefined;
  /** When it takes in what was found further down; `always` if left out. */
  readonly promotion?: 'always' | 'second-hit' | 'never' | undefined;
  /** Values that were used at least that often go down. */
  readonly minUses?: number | undefined;
  /** Values that took at least that many milliseconds go down. */
  readonly minCostMs?: number | undefined;
}

/** How a partition uses tiers at all. */
export interface PartitionTiers {
  /** The tiers below it, the nearest first; all there are, written through, if left out. */
  readonly tiers?: readonly (string | PartitionTier)[] | undefined;
  /** `around` keeps what was computed out of memory until it is read again; `through` if left out. */
  readonly write?: 'through' | 'around' | undefined;
  /** `never` keeps out of memory what a tier had; `always` if left out. */
  readonly promotion?: 'always' | 'never' | undefined;
}

/**
 * The tiers of a partition, one by one.
 *
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for a tier that is not there, or is there twice
 */
export function partitionTiers(
  partition: string,
  { tiers: used }: PartitionTiers,
  tiers: Readonly<Record<string, TierSettings>>,
): readonly PartitionTier[] {
  const names = Object.keys(tiers);
  const chosen = (used ?? names).map((each) => (typeof each === 'string' ? { tier: each } : each));
  for (const [at, { tier }] of chosen.entries()) {
    const isTwice = chosen.findIndex((each) => each.tier === tier) < at;
    if (names.includes(tier) && !isTwice) continue;
    throw new InferkvError(
      'ERR_INFERKV_CONFIG_INVALID',
      isTwice
        ? `partitions.${partition}.tiers names ${tier} twice.`
        : `partitions.${partition}.tiers names ${tier}, and there is no such tier; there are: ${names.join(', ') || 'none'}.`,
    );
  }
  return chosen;
}
