import type { FastifyInstance, FastifyRequest } from 'fastify';
import { z } from 'zod';

import { InferkvError, messageOf } from '../base/errors.ts';
import type { Explanation } from '../cache/explanation.ts';
import type { RequestBody } from './body.ts';

/** What can be asked of a cache, and done to it, by who runs it. */
export interface AdministeredCache {
  stats(): Readonly<Record<string, unknown>>;
  tiers(): unknown;
  explain(key: string): Explanation;
  invalidate(what: Invalidation): number;
  breakdown(partition: PartitionName, limit?: number): unknown;
  whatIf(): Promise<unknown>;
}

const PARTITIONS = ['models', 'parameters', 'results', 'activations', 'attention'] as const;
type PartitionName = (typeof PARTITIONS)[number];

const MAX_TEXT = 512;
const text = z.string().min(1).max(MAX_TEXT);
const invalidationSchema: z.ZodType<Invalidation> = z.union([
  z.strictObject({ key: text }),
  z.strictObject({ tag: text }),
  z.strictObject({ model: text }),
  z.strictObject({ tenant: text }),
]);
/** One of these. */
type Invalidation =
  | { readonly key: string }
  | { readonly tag: string }
  | { readonly model: string }
  | { readonly tenant: string };

const limitSchema = z.coerce.number().int().min(1).max(10_000).optional();

/** Looking into the cache and clearing it; for keys of the role admin. */
export function cacheRoutes(app: FastifyInstance, cache: AdministeredCache): void {
  const admin = { config: { role: 'admin' } } as const;

  app.get('/v2/cache', admin, async () => ({ partitions: cache.stats(), ...(cache.tiers() as object) }));

  app.get('/v2/cache/what-if', admin, () => cache.whatIf());

  app.get('/v2/cache/keys/:key', admin, async (request) => cache.explain((request.params as { key: string }).key));

  app.get('/v2/cache/partitions/:partition', admin, async (request) => {
    const { partition } = request.params as { partition: string };
    const name = PARTITIONS.find((each) => each === partition);
    if (name === undefined) {
      throw new InferkvError(
        'ERR_INFERKV_BODY_INVALID',
        `There is no such partition; there are: ${PARTITIONS.join(', ')}.`,
      );
    }
    const limit = limitSchema.safeParse((request.query as { limit?: string }).limit);
    if (!limit.success) throw new InferkvError('ERR_INFERKV_BODY_INVALID', 'limit must be a number from 1 to 10000.');
    return cache.breakdown(name, limit.data);
  });

  app.post('/v2/cache/invalidate', admin, async (request) => ({
    invalidated: cache.invalidate(invalidationOf(request)),
  }));
}

function invalidationOf(request: FastifyRequest): Invalidation {
  const body = request.body as RequestBody | undefined;
  try {
    return invalidationSchema.parse(JSON.parse(Buffer.from(body?.bytes ?? []).toString('utf8')));
  } catch (error) {
    const why = error instanceof z.ZodError ? '' : ` (${messageOf(error)})`;
    throw new InferkvError(
      'ERR_INFERKV_BODY_INVALID',
      `Say what to take out by one of {"key"}, {"tag"}, {"model"} or {"tenant"}, a text of 1 to ${MAX_TEXT} characters${why}.`,
      { cause: error },
    );
  } finally {
    body?.release();
  }
}
