import type { FastifyInstance } from 'fastify';

import type { SessionMetadata, TensorSpec } from '../../engines/engine.ts';
import type { ServedModels } from '../served-models.ts';
import { datatypeOf } from './datatypes.ts';
import type { ModelPath } from './infer-routes.ts';

/** What the routes need. */
export interface MetadataRouteOptions {
  readonly models: ServedModels;
  /** The server's own version. */
  readonly version: string;
  /** Whether the server takes requests: not before it is set up, and not while it shuts down. */
  readonly isReady: () => boolean;
}

/** Extensions of the protocol that this server has, by the names Triton gave them. */
const EXTENSIONS = ['binary_tensor_data', 'model_repository'];

// Platforms by engine, in the protocol's form <project>_<format>.
const PLATFORMS: Readonly<Record<string, string>> = { onnx: 'onnxruntime_onnx', torchscript: 'pytorch_torchscript' };

/** Health, readiness and metadata of the server and its models. */
export function metadataRoutes(app: FastifyInstance, { models, version, isReady }: MetadataRouteOptions): void {
  const open = { config: { role: 'open' } } as const;
  const infer = { config: { role: 'infer' } } as const;

  app.get('/v2', open, () => ({ name: 'inferkv', version, extensions: EXTENSIONS }));
  app.get('/v2/health/live', open, () => ({ live: true }));
  app.get('/v2/health/ready', open, (_request, reply) => {
    const ready = isReady();
    return reply.code(ready ? 200 : 503).send({ live: true, ready });
  });

  for (const path of ['/v2/models/:name', '/v2/models/:name/versions/:version']) {
    app.get(path, infer, async (request) => {
      const { name, version: wanted } = request.params as ModelPath;
      const metadata = await models.serving(name, wanted).metadata();
      return {
        name,
        versions: await versionsOf(models, name),
        ...wireMetadata(metadata, await engineOf(models, name, wanted)),
      };
    });
    app.get(`${path}/ready`, infer, async (request, reply) => {
      const { name, version: wanted } = request.params as ModelPath;
      const { fault } = await models.handle(name, wanted).status();
      const ready = isReady() && fault === undefined && !models.isUnloaded(name);
      return reply.code(ready ? 200 : 503).send({ name, ready });
    });
  }
}

async function versionsOf(models: ServedModels, name: string): Promise<readonly string[]> {
  return (await models.list()).find((listing) => listing.name === name)?.versions ?? [];
}

async function engineOf(models: ServedModels, name: string, version: string | undefined): Promise<string> {
  return (await models.handle(name, version).status()).engine;
}

function wireMetadata({ inputs, outputs }: SessionMetadata, engine: string): Readonly<Record<string, unknown>> {
  return { platform: PLATFORMS[engine] ?? engine, inputs: inputs.map(wireSpec), outputs: outputs.map(wireSpec) };
}

/** The protocol has no word for a model that does not say: its datatype is `ANY`, its shape one free dimension. */
function wireSpec({ name, type, shape }: TensorSpec): Readonly<Record<string, unknown>> {
  const sizes = shape === 'any' ? [-1] : shape.map((size) => (typeof size === 'number' ? size : -1));
  return { name, datatype: type === 'any' ? 'ANY' : datatypeOf(type), shape: sizes };
}
