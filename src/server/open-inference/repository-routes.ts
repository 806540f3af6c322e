import type { FastifyInstance, FastifyRequest } from 'fastify';
import { z } from 'zod';

import { InferkvError } from '../../base/errors.ts';
import { failureOf } from '../failures.ts';
import { bodyOf } from '../json-body.ts';
import type { ServedModels } from '../served-models.ts';
import type { ModelPath } from './infer-routes.ts';

const indexSchema = z.object({ ready: z.boolean().optional() });
const controlSchema = z.object({ parameters: z.record(z.string(), z.unknown()).optional() });

interface IndexEntry {
  readonly name: string;
  readonly version: string;
  readonly state: 'READY' | 'UNAVAILABLE';
  readonly reason: string;
}

/** Triton's model repository extension: what there is, loading and unloading. */
export function repositoryRoutes(app: FastifyInstance, models: ServedModels): void {
  app.post('/v2/repository/index', { config: { role: 'infer' } }, async (request) => {
    const { ready = false } = bodyOf(request, indexSchema);
    const entries = (await models.list()).flatMap(({ name, versions }) =>
      versions.map((version) => entryOf(models, name, version, request)),
    );
    return ready ? entries.filter(({ state }) => state === 'READY') : entries;
  });

  app.post('/v2/repository/models/:name/load', { config: { role: 'admin' } }, async (request) => {
    const { parameters = {} } = bodyOf(request, controlSchema);
    const given = Object.keys(parameters);
    if (given.length > 0) {
      throw new InferkvError(
        'ERR_INFERKV_BODY_INVALID',
        `Loading takes no parameters here (given: ${given.join(', ').slice(0, 80)}); a model's settings are in its inferkv.json.`,
      );
    }
    await models.load((request.params as ModelPath).name);
    return {};
  });

  app.post('/v2/repository/models/:name/unload', { config: { role: 'admin' } }, async (request) => {
    // "unload_dependents" changes nothing, as no model here depends on another.
    bodyOf(request, controlSchema);
    await models.unload((request.params as ModelPath).name);
    return {};
  });
}

/** Told from memory: listing a repository reads no model. */
function entryOf(models: ServedModels, name: string, version: string, request: FastifyRequest): IndexEntry {
  if (models.isUnloaded(name)) return { name, version, state: 'UNAVAILABLE', reason: 'unloaded' };
  // Who asks for no version in particular gets the highest, which is known under that name only.
  const peeked = [models.handle(name, version).peek(), models.handle(name).peek()].filter(
    (each) => each.version === version,
  );
  const fault = peeked.find((each) => each.fault !== undefined)?.fault;
  if (fault !== undefined) {
    const { error } = failureOf(fault, request.principal.role === 'admin').body;
    return { name, version, state: 'UNAVAILABLE', reason: error };
  }
  const resident = peeked.some((each) => each.resident);
  return { name, version, state: 'READY', reason: resident ? '' : 'loads when it is asked' };
}
