import { createRequire } from 'node:module';
import type { Socket } from 'node:net';

import fastify, {
  LogController,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify';

import { systemClock, type Clock } from '../base/clock.ts';
import { InferkvError } from '../base/errors.ts';
import { checkServerOptions } from '../config/schema.ts';
import { SERVER_DEFAULTS, type ServerDefaults, type ServerOptions } from '../config/server-settings.ts';
import { bytesOfSetting } from '../config/sizes.ts';
import { PrometheusMetrics } from '../telemetry/prometheus.ts';
import { Admission } from './admission.ts';
import { ApiKeys, type Principal, type Role } from './api-keys.ts';
import { BodyReader, type RequestBody } from './body.ts';
import { cacheRoutes, type AdministeredCache } from './cache-routes.ts';
import { Exchange } from './exchange.ts';
import { failureOf } from './failures.ts';
import { Codec } from './open-inference/codec.ts';
import { inferRoutes } from './open-inference/infer-routes.ts';
import { metadataRoutes } from './open-inference/metadata-routes.ts';
import { repositoryRoutes } from './open-inference/repository-routes.ts';
import { isLoopback, refuseForeignPages } from './origins.ts';
import { ServedModels, type InferenceHost } from './served-models.ts';

declare module 'fastify' {
  interface FastifyRequest {
    principal: Principal;
    exchange: Exchange;
  }
  interface FastifyContextConfig {
    /** Who may ask: `open` anybody, even without a key. */
    role?: Role | 'open';
    /** Whether it counts as work that is limited. */
    admits?: boolean;
  }
}

/** What a server serves: an inference cache. */
export interface ServedCache extends InferenceHost, AdministeredCache {}

/** A server that listens, or will. */
export interface InferenceServer extends AsyncDisposable {
  /** Starts listening; gives the address, `http://127.0.0.1:8000`. */
  listen(): Promise<string>;
  /** Takes nothing new, finishes what it accepted, and stops. The cache it serves stays open. */
  close(): Promise<void>;
}

// Connections the system accepts for us while we are busy; past it clients wait a second and try again.
const BACKLOG = 4096;
const CONNECTIONS_CHECK_MS = 5_000;
const MAX_PATH_PARAMETER = 256;

// What others write into their logs for this; no client gets to see it.
const CLIENT_LEFT = 499;

const NOBODY: Principal = { tenant: '', role: 'infer' };
const OWNER: Principal = { tenant: '', role: 'admin' };

const { version: VERSION } = createRequire(import.meta.url)('../../package.json') as { version: string };

/**
 * Serves a cache by the Open Inference Protocol v2, with its binary tensors and Triton's model repository, and metrics.
 *
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for a host outside loopback without keys, or a key file that cannot be read
 */
export function createInferenceServer(
  cache: ServedCache,
  options: ServerOptions & { readonly clock?: Clock } = {},
): InferenceServer {
  return new HttpServer(cache, options);
}

interface Settings extends ServerDefaults {
  readonly keysFile: string | undefined;
  readonly maxConcurrentPerTenant: number;
}

class HttpServer implements InferenceServer {
  readonly #settings: Settings;
  readonly #clock: Clock;
  readonly #app: FastifyInstance;
  readonly #bodies: BodyReader;
  readonly #codec = new Codec();
  readonly #admission: Admission;
  readonly #metrics: PrometheusMetrics;
  readonly #keys: ApiKeys | undefined;
  /** Open connections, and how many requests of each are under way. */
  readonly #connections = new Map<Socket, number>();
  #state: 'starting' | 'ready' | 'closing' = 'starting';
  #closing: Promise<void> | undefined;

  constructor(cache: ServedCache, { clock = systemClock, ...options }: ServerOptions & { readonly clock?: Clock }) {
    const settings = settingsOf(checkServerOptions(options));
    this.#settings = settings;
    this.#clock = clock;
    this.#app = frameworkOf(settings);
    this.#keys = this.#openKeys();
    this.#admission = new Admission(settings);
    this.#bodies = new BodyReader({
      maxBodyBytes: bytesOfSetting('server.maxBodyBytes', settings.maxBodyBytes),
      maxBufferedBytes: bytesOfSetting('server.maxBufferedBytes', settings.maxBufferedBytes),
    });
    this.#metrics = new PrometheusMetrics({
      partitions: () => cache.stats(),
      requestsUnderWay: () => this.#admission.underWay,
      bufferedBytes: () => this.#bodies.bufferedBytes,
    });
    this.#setUp(new ServedModels(cache), cache);
  }

  async listen(): Promise<string> {
    const { host, port } = this.#settings;
    try {
      const address = await this.#app.listen({ host, port, backlog: BACKLOG });
      this.#state = 'ready';
      return address;
    } catch (cause) {
      const { code } = cause as { code?: unknown };
      const why = code === 'EADDRINUSE' ? 'somebody listens there already; choose another port' : String(code ?? cause);
      throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `The server cannot listen at ${host}:${port}: ${why}.`, {
        cause,
      });
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #shutDown(): Promise<void> {
    this.#state = 'closing';
    const patience = this.#clock.after(this.#settings.shutdownTimeoutMs, () => this.#app.server.closeAllConnections());
    // Node takes a connection that has not asked anything yet for a busy one.
    for (const [socket, underWay] of this.#connections) if (underWay === 0) socket.destroySoon();
    try {
      await this.#app.close();
    } finally {
      patience.cancel();
      await this.#codec.close();
      this.#metrics[Symbol.dispose]();
    }
  }

  #openKeys(): ApiKeys | undefined {
    const { keysFile, host } = this.#settings;
    if (keysFile !== undefined) {
      return new ApiKeys(keysFile, this.#clock, (error) => this.#app.log.error(error, 'The key file cannot be read'));
    }
    if (isLoopback(host)) return undefined;
    throw new InferkvError(
      'ERR_INFERKV_CONFIG_INVALID',
      `server.host: ${host} can be reached from other machines, and there are no API keys. Make some with "inferkv keys add" and name their file as server.keysFile, or listen at 127.0.0.1.`,
    );
  }

  #setUp(models: ServedModels, cache: AdministeredCache): void {
    const app = this.#app;
    const { deadlineMs, responseTimeoutMs, maxConnections } = this.#settings;
    app.server.maxConnections = maxConnections;
    app.server.on('connection', (socket) => this.#track(socket));
    app.decorateRequest('principal');
    app.decorateRequest('exchange');
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', (request: FastifyRequest, payload: FastifyRequest['raw']) =>
      this.#readBody(request, payload),
    );
    app.addHook('onRequest', (request, reply) => this.#begin(request, reply));
    app.setErrorHandler((error, request, reply) => this.#fail(error, request, reply));
    app.setNotFoundHandler((request, reply) =>
      reply.code(404).send({ error: `There is nothing at ${request.method} ${request.url.slice(0, 200)}.` }),
    );
    const isReady = (): boolean => this.#state === 'ready';
    metadataRoutes(app, { models, version: VERSION, isReady });
    inferRoutes(app, { models, codec: this.#codec, deadlineMs, responseTimeoutMs });
    repositoryRoutes(app, models);
    cacheRoutes(app, cache);
    app.get('/metrics', { config: { role: 'admin' } }, async (_request, reply) =>
      reply.type(this.#metrics.contentType).send(await this.#metrics.text()),
    );
  }

  /** Gives the number of a connection's requests under way; one that is not known yet came by a second address of the host. */
  #track(socket: Socket): number {
    const underWay = this.#connections.get(socket);
    if (underWay !== undefined) return underWay;
    // Every request of a connection listens for its end, and clients may send many before the first is answered.
    socket.setMaxListeners(0);
    this.#connections.set(socket, 0);
    socket.on('close', () => this.#connections.delete(socket));
    return 0;
  }

  /** Before anything of a request is read: who sends it, whether he may, and whether there is room for it. */
  async #begin(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const exchange = new Exchange(request.raw, reply.raw);
    const start = this.#clock.now();
    request.exchange = exchange;
    request.principal = NOBODY;
    const { socket } = request.raw;
    this.#connections.set(socket, this.#track(socket) + 1);
    exchange.whenOver(() => this.#end(request, reply, start));
    const { role = 'admin', admits = false } = request.routeOptions.config;
    request.principal = this.#principalOf(request, role);
    if (role === 'admin' && request.principal.role !== 'admin') {
      throw new InferkvError('ERR_INFERKV_FORBIDDEN', 'This asks for an API key of the role admin.');
    }
    if (admits) exchange.whenOver(this.#admission.enter(request.principal.tenant));
  }

  #principalOf({ headers }: FastifyRequest, role: Role | 'open'): Principal {
    if (this.#keys === undefined) {
      refuseForeignPages(headers);
      return OWNER;
    }
    return role === 'open' ? NOBODY : this.#keys.verify(headers.authorization);
  }

  async #readBody(request: FastifyRequest, payload: FastifyRequest['raw']): Promise<RequestBody> {
    const encoding = request.headers['content-encoding'] ?? 'identity';
    if (encoding !== 'identity') {
      throw new InferkvError(
        'ERR_INFERKV_BODY_INVALID',
        `Bodies in the encoding ${encoding} are not read here; send it plain.`,
      );
    }
    const body = await this.#bodies.read(payload);
    request.exchange.whenOver(() => body.release());
    return body;
  }

  #fail(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
    const failure = failureOf(error, request.principal.role === 'admin');
    if (failure.unexpected) request.log.error(error, 'A request failed');
    else request.log.info({ code: failure.body.code, url: request.url }, 'A request was refused');
    void reply.code(failure.status).headers(failure.headers).send(failure.body);
  }

  #end({ routeOptions, method, raw: { socket } }: FastifyRequest, { raw }: FastifyReply, start: number): void {
    const status = raw.writableFinished ? raw.statusCode : CLIENT_LEFT;
    this.#metrics.observeRequest(routeOptions.url ?? 'none', method, status, this.#clock.now() - start);
    const left = (this.#connections.get(socket) ?? 1) - 1;
    if (this.#connections.has(socket)) this.#connections.set(socket, left);
    if (this.#state === 'closing' && left === 0) socket.destroySoon();
  }
}

function settingsOf(options: ServerOptions): Settings {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const settings = { ...SERVER_DEFAULTS, keysFile: undefined, ...given } as Settings;
  return { ...settings, maxConcurrentPerTenant: options.maxConcurrentPerTenant ?? settings.maxConcurrent };
}

function frameworkOf({ logLevel, requestTimeoutMs }: Settings): FastifyInstance {
  return fastify({
    logger: { level: logLevel, stream: process.stderr },
    logController: new LogController({ disableRequestLogging: true }),
    requestTimeout: requestTimeoutMs,
    // What is wrong before there is a route: an address that cannot be decoded.
    frameworkErrors: (error, _request, reply) => refuseAddress(error, reply as unknown as FastifyReply),
    forceCloseConnections: 'idle',
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: MAX_PATH_PARAMETER },
    http: {
      headersTimeout: requestTimeoutMs,
      connectionsCheckingInterval: Math.min(CONNECTIONS_CHECK_MS, requestTimeoutMs),
    },
  });
}

function refuseAddress({ message, code, statusCode = 400 }: FastifyError, reply: FastifyReply): void {
  void reply.code(statusCode).send({ error: message, code });
}
