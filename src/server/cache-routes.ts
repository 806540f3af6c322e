import type { FastifyInstance, FastifyRequest } from 'fastify';
import { z } from 'zod';

import { InferkvError } from '../base/errors.ts';
import { PARTITION_NAMES, type PartitionName } from '../config/partitions.ts';
import type { PartitionNumbers } from '../telemetry/prometheus.ts';
import { bodyOf } from './json-body.ts';

/** What an operator asks of a cache. */
export interface AdministeredCache {
  stats(): Readonly<Record<string, PartitionNumbers>>;
  tiers(): object;
  breakdown(partition: PartitionName, limit?: number): object;
  explain(key: string): object;
  invalidate(
    what:
      | { readonly key: string }
      | { readonly tag: string }
      | { readonly model: string }
      | { readonly tenant: string },
  ): number;
  whatIf(): Promise<readonly object[]>;
}

const MOST_ROWS = 1000;

// Names of models and tenants may hold anything but what nobody can see.
const name = z
  .string()
  .min(1)
  .max(1024)
  .regex(/^\P{Cc}+$/u, 'must hold no control characters');
const key = z.string().regex(/^[\x21-\x7e]{1,256}$/, 'is no key: 1 to 256 visible characters of ASCII');
const explainSchema = z.object({ key });
const statsSchema = z.strictObject({
  partition: z.enum(PARTITION_NAMES as readonly [PartitionName, ...PartitionName[]]).optional(),
  limit: z.coerce.number().int().min(1).max(MOST_ROWS).optional(),
});
const invalidateSchema = z.union(
  [
    z.strictObject({ key }),
    z.strictObject({ tag: name }),
    z.strictObject({ model: name }),
    z.strictObject({ tenant: name }),
  ],
  { error: 'give one of "key", "tag", "model" and "tenant", as a string' },
);

/** What is in the cache and why, for operators: explain, figures, invalidation, what-if. */
export function cacheRoutes(app: FastifyInstance, cache: AdministeredCache): void {
  const admin = { config: { role: 'admin' } } as const;

  app.get('/v1/cache/explain/:key', admin, (request) => cache.explain(valid(explainSchema, request.params).key));

  app.get('/v1/cache/stats', admin, (request) => {
    const { partition, limit } = valid(statsSchema, request.query);
    const partitions = cache.stats();
    if (partition === undefined) return { partitions, ...cache.tiers() };
    return { partitions: { [partition]: partitions[partition] }, ...cache.breakdown(partition, limit) };
  });

  app.post('/v1/cache/invalidate', admin, (request: FastifyRequest) => ({
    invalidated: cache.invalidate(bodyOf(request, invalidateSchema)),
  }));

  app.get('/v1/cache/what-if', admin, async () => ({ partitions: await cache.whatIf() }));
}

/** @throws InferkvError `ERR_INFERKV_BODY_INVALID` */
function valid<T>(schema: z.ZodType<T>, given: unknown): T {
  const checked = schema.safeParse(given);
  if (checked.success) return checked.data;
  const faults = checked.error.issues.map(({ path, message }) => `${path.join('.')} ${message}`.trim());
  throw new InferkvError('ERR_INFERKV_BODY_INVALID', `The request is not valid: ${faults.join('; ').slice(0, 300)}`);
}
