import type { ConnectionOptions } from 'node:tls';

import type { Cluster, ClusterOptions, Redis, RedisOptions } from 'ioredis';

import { orAborted } from '../../base/cancellation.ts';
import { InferkvError, messageOf } from '../../base/errors.ts';

/** An address of a server. */
export interface RedisAddress {
  readonly host: string;
  readonly port?: number | undefined;
}

/** Where a Redis is, and how it is reached. */
export interface RedisConnection {
  /** `redis://user:password@host:port/db`, or `rediss://` for TLS; `redis://127.0.0.1:6379` if nothing else is given. */
  readonly url?: string | undefined;
  /** Sentinels to ask where the master is, and its name there. */
  readonly sentinels?: readonly RedisAddress[] | undefined;
  readonly sentinelMaster?: string | undefined;
  /** Some nodes of a Cluster; the others are learnt from them. */
  readonly cluster?: readonly RedisAddress[] | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** `true` for TLS by the system's certificates, or what Node's `tls.connect` takes. */
  readonly tls?: boolean | ConnectionOptions | undefined;
  /** Milliseconds that making a connection may take; 2,000 if left out. */
  readonly connectTimeoutMs?: number | undefined;
}

/** One server's client, or a Cluster's. */
export type RedisClient = Redis | Cluster;

interface Peer {
  readonly Redis: typeof Redis;
  readonly Cluster: typeof Cluster;
}

// Replies are mapped as they always were.
type SingleOptions = Omit<RedisOptions, 'replyMapping'>;
type SeveralOptions = Omit<ClusterOptions, 'redisOptions'> & { readonly redisOptions: SingleOptions };

const DEFAULT_URL = 'redis://127.0.0.1:6379';
const DEFAULT_PORT = 6379;
const SENTINEL_PORT = 26_379;
const CONNECT_TIMEOUT_MS = 2000;
const MAX_RECONNECT_MS = 2000;

/** A client that connects when it is first needed, comes back by itself, and never lets commands pile up while it has no connection. */
export async function makeClient(connection: RedisConnection): Promise<RedisClient> {
  const { Redis: Single, Cluster: Several } = await loadPeer();
  const options = redisOptions(connection);
  const client =
    connection.cluster === undefined
      ? singleClient(Single, connection, options)
      : new Several(
          connection.cluster.map(({ host, port = DEFAULT_PORT }) => ({ host, port })),
          clusterOptions(options),
        );
  // Every call gets its own error; without a listener the process would end.
  client.on('error', () => undefined);
  return client;
}

/** Waits until the client has a connection, no longer than the signal allows; tells at once if it cannot be had. */
export async function connected(client: RedisClient, signal: AbortSignal | undefined): Promise<void> {
  if (client.status === 'ready') return;
  await orAborted(connect(client), signal);
}

function connect(client: RedisClient): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: unknown): void => {
      client.off('ready', onReady);
      client.off('error', settle);
      client.off('close', onClose);
      client.off('end', onClose);
      if (error === undefined) resolve();
      else reject(error instanceof Error ? error : new Error(messageOf(error)));
    };
    const onReady = (): void => settle();
    const onClose = (): void => settle(new Error('the connection could not be made, or was closed'));
    client.on('ready', onReady);
    client.on('error', settle);
    client.on('close', onClose);
    client.on('end', onClose);
    if (client.status === 'wait' || client.status === 'end') client.connect().catch(settle);
    // Between two attempts: whoever waits would wait for the next one.
    else if (client.status === 'reconnecting' || client.status === 'close') onClose();
  });
}

function singleClient(
  Single: typeof Redis,
  { url, sentinels, sentinelMaster }: RedisConnection,
  options: SingleOptions,
): Redis {
  if (sentinels === undefined) return new Single(url ?? DEFAULT_URL, options);
  return new Single({
    ...options,
    sentinels: sentinels.map(({ host, port = SENTINEL_PORT }) => ({ host, port })),
    name: sentinelMaster ?? 'mymaster',
    sentinelRetryStrategy: backoffMs,
    failoverDetector: true,
  });
}

function redisOptions({
  username,
  password,
  tls,
  connectTimeoutMs = CONNECT_TIMEOUT_MS,
}: RedisConnection): SingleOptions {
  return {
    lazyConnect: true,
    // What cannot be sent now fails now: the tiers above decide what to do, and nothing piles up.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: connectTimeoutMs,
    retryStrategy: backoffMs,
    // A master that has become a replica is another server's business by now.
    reconnectOnError: (error) => error.message.startsWith('READONLY'),
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(tls !== undefined && tls !== false && { tls: tls === true ? {} : tls }),
  };
}

function clusterOptions(options: SingleOptions): SeveralOptions {
  const { retryStrategy: _, ...redis } = options;
  return {
    redisOptions: redis,
    lazyConnect: true,
    enableOfflineQueue: false,
    clusterRetryStrategy: backoffMs,
    // What a node answers while another one takes over.
    retryDelayOnClusterDown: 100,
    retryDelayOnFailover: 100,
    slotsRefreshTimeout: options.connectTimeout ?? CONNECT_TIMEOUT_MS,
  };
}

function backoffMs(attempt: number): number {
  return Math.min(MAX_RECONNECT_MS, 25 * 2 ** Math.min(attempt, 10));
}

async function loadPeer(): Promise<Peer> {
  try {
    return await import('ioredis');
  } catch (error) {
    throw new InferkvError(
      'ERR_INFERKV_PEER_MISSING',
      'Redis is reached by ioredis, which is not installed: npm install ioredis',
      {
        cause: error,
      },
    );
  }
}
