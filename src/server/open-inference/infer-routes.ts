import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { InferkvError } from '../../base/errors.ts';
import type { CacheMode, CacheReport, LeasedAnswer } from '../../inference/result-cache.ts';
import type { RequestBody } from '../body.ts';
import { cacheStatusOf } from '../cache-status.ts';
import type { ServedModels } from '../served-models.ts';
import type { Codec } from './codec.ts';
import type { EncodedResponse } from './infer-response.ts';

/** What the routes need. */
export interface InferRouteOptions {
  readonly models: ServedModels;
  readonly codec: Codec;
  /** Milliseconds after which an answer is given up, unless the request allows less. */
  readonly deadlineMs: number;
  /** Milliseconds a client may take to receive an answer without any progress. */
  readonly responseTimeoutMs: number;
}

/** Parameters of the path. */
export interface ModelPath {
  readonly name: string;
  readonly version?: string;
}

/** `POST /v2/models/<name>[/versions/<version>]/infer` */
export function inferRoutes(app: FastifyInstance, options: InferRouteOptions): void {
  const config = { role: 'infer', admits: true } as const;
  const handler = (request: FastifyRequest, reply: FastifyReply): Promise<void> => infer(options, request, reply);
  app.post('/v2/models/:name/infer', { config }, handler);
  app.post('/v2/models/:name/versions/:version/infer', { config }, handler);
}

async function infer(options: InferRouteOptions, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const { name, version } = request.params as ModelPath;
  const body = request.body as RequestBody | undefined;
  if (body === undefined) throw new InferkvError('ERR_INFERKV_BODY_INVALID', 'The request has no body.');
  let answer: LeasedAnswer | undefined;
  try {
    const model = options.models.serving(name, version);
    const decoded = await options.codec.decode(body);
    answer = await model.lease(decoded.inputs, {
      outputs: decoded.outputs?.map((output) => output.name),
      parameters: decoded.parameters,
      cache: cacheModeOf(request.headers['cache-control']),
      tenant: request.principal.tenant,
      signal: request.exchange.signal,
      deadlineMs: Math.min(options.deadlineMs, decoded.deadlineMs ?? options.deadlineMs),
    });
    const answering = { name, version: answer.cache.version };
    const encoded = await options.codec.encode(answering, decoded, answer.outputs);
    // From here on the response holds the lease.
    send(request, reply, encoded, answer, options.responseTimeoutMs);
  } catch (error) {
    answer?.release();
    throw error;
  } finally {
    body.release();
  }
}

/** How HTTP's own directives say it: `no-store` neither reads nor keeps, `no-cache` computes anew and keeps that. */
function cacheModeOf(cacheControl: string | undefined): CacheMode {
  if (cacheControl === undefined) return 'use';
  const directives = cacheControl.toLowerCase().split(',');
  if (directives.some((each) => each.trim() === 'no-store')) return 'bypass';
  return directives.some((each) => each.trim() === 'no-cache') ? 'refresh' : 'use';
}

/** Writes an answer from the memory of the cache, which stays leased until the system has taken it or the client is gone. */
function send(
  { exchange }: FastifyRequest,
  reply: FastifyReply,
  { pieces, jsonLength, byteLength }: EncodedResponse,
  answer: LeasedAnswer,
  responseTimeoutMs: number,
): void {
  reply.hijack();
  const { raw } = reply;
  exchange.whenOver(() => answer.release());
  if (raw.destroyed) return;
  raw.writeHead(200, headersOf(answer.cache, jsonLength, byteLength));
  raw.cork();
  for (const each of pieces) raw.write(each);
  raw.end();
  raw.uncork();
  // A client that reads nothing must not pin memory for ever; one that makes progress may take its time.
  if (!raw.writableFinished) raw.setTimeout(responseTimeoutMs);
}

function headersOf(
  report: CacheReport,
  jsonLength: number,
  byteLength: number,
): Readonly<Record<string, string | number>> {
  const isBinary = byteLength > jsonLength;
  return {
    'content-type': isBinary ? 'application/octet-stream' : 'application/json',
    'content-length': byteLength,
    'cache-status': cacheStatusOf(report),
    ...(isBinary && { 'inference-header-content-length': jsonLength }),
  };
}
