import type { Socket } from 'node:net';
import type { ConnectionOptions } from 'node:tls';

import type * as IoRedis from 'ioredis';

import { InferkvError } from '../../base/errors.ts';
import { framedConnector } from './framed-connector.ts';
import type { RedisSettings } from './options.ts';
import { SCRIPTS, type Scripts } from './scripts.ts';

/** What the store uses of ioredis, of one server and of a Cluster alike. */
export interface RedisClient extends Scripts {
  getBuffer(key: string): Promise<unknown>;
  set(key: string, value: Buffer, ...expiry: readonly (string | number)[]): Promise<unknown>;
  unlink(key: string): Promise<unknown>;
  hmget(key: string, ...fields: readonly string[]): Promise<unknown>;
  xread(...words: readonly (string | number)[]): Promise<unknown>;
  xrange(key: string, ...words: readonly (string | number)[]): Promise<unknown>;
  xrevrange(key: string, ...words: readonly (string | number)[]): Promise<unknown>;
  connect(): Promise<void>;
  disconnect(): void;
  on(event: string, listener: (...values: readonly unknown[]) => void): void;
  once(event: string, listener: (...values: readonly unknown[]) => void): void;
}

/** One connection to one server. */
interface Node {
  readonly stream?: Socket;
  on(event: string, listener: () => void): void;
}

/** What a connection is for: `calls` of many, or one that waits for invalidations. */
export type Purpose = 'calls' | 'epochs';

type Library = typeof IoRedis;
type NodeOptions = Omit<
  IoRedis.RedisOptions,
  'replyMapping' | 'host' | 'port' | 'path' | 'sentinels' | 'himportFieldsets'
>;

const INSTALL = 'npm install ioredis@^6.0.0';
/** Milliseconds that a connection has to end by itself when it is closed. */
const DISCONNECT_MS = 200;
// In a Cluster a call is sent again while its slots change hands: for about a second, then it is the caller's to decide.
const REDIRECTIONS = 10;
const FAILOVER_DELAY_MS = 100;

/** @throws InferkvError `ERR_INFERKV_PEER_MISSING` with the line that installs it */
export async function loadLibrary(): Promise<Library> {
  try {
    return await import('ioredis');
  } catch (error) {
    throw new InferkvError(
      'ERR_INFERKV_PEER_MISSING',
      `The Redis store needs the package ioredis, which could not be loaded; install it with: ${INSTALL}`,
      { cause: error, key: 'ioredis' },
    );
  }
}

/**
 * A client that is not connected yet, and never connects again by itself: `Connection` does, when there is a call.
 *
 * It keeps nothing for later: what cannot be sent is rejected, and what is under way when the connection ends, too.
 * Its sockets do not keep the process alive.
 */
export function createClient(library: Library, settings: RedisSettings, purpose: Purpose): RedisClient {
  const client =
    settings.cluster === undefined ? createNode(library, settings, purpose) : createCluster(library, settings, purpose);
  return client as RedisClient;
}

function createNode(library: Library, settings: RedisSettings, purpose: Purpose): unknown {
  const { host, port, path, sentinels, natMap, tls } = settings;
  const reached =
    sentinels === undefined
      ? path === undefined
        ? { host, port }
        : { path }
      : {
          sentinels: [...sentinels],
          name: settings.masterName,
          sentinelRetryStrategy: () => null,
          sentinelCommandTimeout: settings.connectTimeoutMs,
          enableTLSForSentinelMode: isWanted(tls),
          ...(settings.sentinelUsername !== undefined && { sentinelUsername: settings.sentinelUsername }),
          ...(settings.sentinelPassword !== undefined && { sentinelPassword: settings.sentinelPassword }),
          ...(isWanted(settings.sentinelTls) && { sentinelTLS: tlsOf(settings.sentinelTls) }),
          ...(natMap !== undefined && { natMap: { ...natMap } }),
        };
  const client = new library.Redis({
    ...nodeOptions(library, settings, purpose),
    ...reached,
    db: settings.db,
    retryStrategy: null,
    enableOfflineQueue: false,
    scripts: SCRIPTS,
  });
  unrefed(client);
  return client;
}

function createCluster(library: Library, settings: RedisSettings, purpose: Purpose): unknown {
  const client = new library.Cluster([...(settings.cluster ?? [])], {
    lazyConnect: true,
    enableOfflineQueue: false,
    clusterRetryStrategy: null,
    // Its timer would keep the process alive; where slots are is learnt from answers, and when a node is gone.
    slotsRefreshInterval: 0,
    slotsRefreshTimeout: settings.connectTimeoutMs,
    maxRedirections: REDIRECTIONS,
    // Who waits for invalidations must hear at once that the connection is gone, not after it was replaced.
    retryDelayOnFailover: purpose === 'epochs' ? 0 : FAILOVER_DELAY_MS,
    retryDelayOnClusterDown: purpose === 'epochs' ? 0 : FAILOVER_DELAY_MS,
    ...(settings.natMap !== undefined && { natMap: { ...settings.natMap } }),
    redisOptions: nodeOptions(library, settings, purpose),
    scripts: SCRIPTS,
  });
  client.on('+node', (node: unknown) => unrefed(node as Node));
  // It always opens one connection more, for messages to subscribers, whom we do not have.
  const { subscriber } = client as unknown as { subscriber?: { stop?(): void } };
  client.once('ready', () => subscriber?.stop?.());
  return client;
}

/** What holds for one server, and for each of a Cluster. */
function nodeOptions(library: Library, settings: RedisSettings, purpose: Purpose): NodeOptions {
  const { username, password, connectTimeoutMs, silenceMs, tls } = settings;
  return {
    lazyConnect: true,
    connectTimeout: connectTimeoutMs,
    connectionName: `inferkv-${purpose}`,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    // Its timers keep the process alive, and who waits for invalidations has a shorter one.
    ...(purpose === 'calls' && { socketTimeout: silenceMs }),
    disconnectTimeout: DISCONNECT_MS,
    username,
    password,
    // Sentinels are asked for the master by a connector of ioredis's own.
    ...(purpose === 'calls' &&
      settings.sentinels === undefined &&
      !isWanted(tls) && { Connector: framedConnector(library) }),
    ...(isWanted(tls) && { tls: tlsOf(tls) }),
  };
}

/** Ends a client at once, whatever its servers do; its calls are rejected. */
export function destroyClient(client: RedisClient): void {
  const streams = streamsOf(client);
  client.disconnect();
  for (const stream of streams) stream.destroy();
}

/** Sends the commands that are issued meanwhile together, to each server what is its. */
export function together<T>(client: RedisClient, issue: () => T): T {
  const streams = streamsOf(client);
  for (const stream of streams) stream.cork();
  try {
    return issue();
  } finally {
    for (const stream of streams) stream.uncork();
  }
}

function streamsOf(client: RedisClient): readonly Socket[] {
  const cluster = client as { nodes?(): readonly Node[] };
  const single: Node = client;
  const all = cluster.nodes?.() ?? [single];
  return all.map(({ stream }) => stream).filter((stream) => stream !== undefined);
}

function unrefed(node: Node): void {
  node.on('connect', () => node.stream?.unref());
}

function isWanted(tls: boolean | ConnectionOptions | undefined): tls is true | ConnectionOptions {
  return tls !== undefined && tls !== false;
}

function tlsOf(tls: true | ConnectionOptions): ConnectionOptions {
  return tls === true ? {} : tls;
}
