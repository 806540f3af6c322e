import { z } from 'zod';

import type { BatchingOptions } from '../engines/batching-session.ts';
import type { SessionOptions } from '../engines/engine.ts';
import { imageSettingsSchema, type ImageSettings } from '../images/image-settings.ts';

const wholeFromOne = z.number().int().positive();

/** Settings of one model: in the repository as `<name>/inferkv.json`, or in the options of the cache. */
export const modelSettingsSchema: z.ZodType<ModelSettings> = z.strictObject({
  /** The engine that runs it; found by the file's ending if left out. */
  engine: z.string().min(1).optional(),
  session: z
    .strictObject({
      threads: wholeFromOne.optional(),
      workers: wholeFromOne.optional(),
      maxQueue: wholeFromOne.optional(),
      engine: z.record(z.string(), z.unknown()).optional(),
    })
    .optional(),
  results: z
    .strictObject({
      /** `false` keeps no results of this model. */
      enabled: z.boolean().optional(),
      /** Milliseconds a result is kept. */
      ttlMs: z.number().nonnegative().optional(),
      /** Results above this are served and not kept. */
      maxEntryBytes: z.number().nonnegative().optional(),
    })
    .optional(),
  batching: z
    .strictObject({
      maxSize: z.number().int().min(2),
      maxDelayMs: z.number().nonnegative().optional(),
    })
    .optional(),
  image: imageSettingsSchema.optional(),
  /** Milliseconds the model stays after its last use. */
  keepAliveMs: z.number().nonnegative().optional(),
  /** `true` keeps the model from its first load on, whatever else needs room. */
  pinned: z.boolean().optional(),
});

/** Settings of one model, checked. */
export interface ModelSettings {
  readonly engine?: string | undefined;
  readonly session?: SessionOptions | undefined;
  readonly results?:
    | {
        readonly enabled?: boolean | undefined;
        readonly ttlMs?: number | undefined;
        readonly maxEntryBytes?: number | undefined;
      }
    | undefined;
  /** Joins requests that come together into one run, along the first dimension of every input and output. */
  readonly batching?: BatchingOptions | undefined;
  /** How an image becomes its input (`inferkv run --input x=photo.jpg`). */
  readonly image?: ImageSettings | undefined;
  readonly keepAliveMs?: number | undefined;
  readonly pinned?: boolean | undefined;
}
