import type { ConnectionOptions } from 'node:tls';

import { systemClock, systemWallClock, type Clock, type WallClock } from '../../base/clock.ts';
import { InferkvError } from '../../base/errors.ts';
import { createRandom, type Random } from '../../base/random.ts';

/** Where a server listens. */
export interface RedisAddress {
  readonly host: string;
  readonly port: number;
}

/** How a store in Redis or Valkey is reached, and its bounds. One server, a master that Sentinels know, or a Cluster. */
export interface RedisStoreOptions {
  /** A name for people and metrics; `redis` if left out. */
  readonly name?: string;
  /** `redis://user:password@host:port/db`, or `rediss://` for TLS; what is given beside it goes first. */
  readonly url?: string;
  /** 127.0.0.1 if left out. */
  readonly host?: string;
  /** 6379 if left out. */
  readonly port?: number;
  /** A Unix socket, instead of host and port. */
  readonly path?: string;
  /** Sentinels that are asked for the master, instead of host and port. */
  readonly sentinels?: readonly RedisAddress[];
  /** What Sentinels call the master; `mymaster` if left out. */
  readonly masterName?: string;
  readonly sentinelUsername?: string;
  readonly sentinelPassword?: string;
  /** TLS to Sentinels; that to the master is `tls`. */
  readonly sentinelTls?: boolean | ConnectionOptions;
  /** Some nodes of a Cluster, instead of host and port; the others are asked for. */
  readonly cluster?: readonly RedisAddress[];
  /** Addresses as the Cluster or the Sentinels give them (`host:port`), and how they are reached from here. */
  readonly natMap?: Readonly<Record<string, RedisAddress>>;
  readonly username?: string;
  readonly password?: string;
  /** Number of the database, 0 if left out; a Cluster has no other. */
  readonly db?: number;
  readonly tls?: boolean | ConnectionOptions;
  /** What all keys begin with; `inferkv:` if left out. */
  readonly keyPrefix?: string;
  /** The longest record in bytes; 128 MiB if left out, 512 MiB at most, as Redis has it. */
  readonly maxRecordBytes?: number;
  /** Milliseconds within which a connection is ready, or has failed; 2,000 if left out. */
  readonly connectTimeoutMs?: number;
  /** Milliseconds without any answer to what was asked, after which a connection is given up; 5,000 if left out. More where one record takes longer to be sent. */
  readonly silenceMs?: number;
  /** Calls that may wait for answers at a time, those included whose callers gave up; 1,024 if left out. */
  readonly maxPendingCalls?: number;
  /** Bytes that may wait to be written; 256 MiB if left out. */
  readonly maxPendingBytes?: number;
  /** Invalidations that subscribers may be behind before they must read all numbers again; 10,000 if left out. */
  readonly epochBacklog?: number;
  /** Milliseconds after which a silent server is told to be there, to whoever listens for invalidations; 400 if left out. */
  readonly heartbeatMs?: number;
  readonly clock?: Clock;
  readonly wallClock?: WallClock;
  readonly random?: Random;
}

/** Options with everything decided. */
export interface RedisSettings extends RedisStoreOptions {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly masterName: string;
  readonly db: number;
  readonly keyPrefix: string;
  readonly maxRecordBytes: number;
  readonly connectTimeoutMs: number;
  readonly silenceMs: number;
  readonly maxPendingCalls: number;
  readonly maxPendingBytes: number;
  readonly epochBacklog: number;
  readonly heartbeatMs: number;
  readonly clock: Clock;
  readonly wallClock: WallClock;
  readonly random: Random;
  /** Where it is, for messages: never with a password. */
  readonly where: string;
}

const MIB = 2 ** 20;
/** The longest string that Redis has unless it is told otherwise. */
const REDIS_MAX_BYTES = 512 * MIB;

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for options that cannot be */
export function settingsOf(options: RedisStoreOptions): RedisSettings {
  const given = { ...fromUrl(options.url), ...definedOf(options) };
  const settings = {
    name: 'redis',
    host: '127.0.0.1',
    port: 6379,
    masterName: 'mymaster',
    db: 0,
    keyPrefix: 'inferkv:',
    maxRecordBytes: 128 * MIB,
    connectTimeoutMs: 2000,
    silenceMs: 5000,
    maxPendingCalls: 1024,
    maxPendingBytes: 256 * MIB,
    epochBacklog: 10_000,
    heartbeatMs: 400,
    clock: systemClock,
    wallClock: systemWallClock,
    random: createRandom(Date.now() ^ process.pid),
    ...given,
  };
  check(settings);
  return { ...settings, where: whereOf(settings) };
}

function check(settings: Omit<RedisSettings, 'where'>): void {
  const { cluster, sentinels, db, maxRecordBytes } = settings;
  if (cluster !== undefined && sentinels !== undefined) throw invalid('has both `cluster` and `sentinels`; give one');
  if (cluster?.length === 0) throw invalid('has no node in `cluster`; name at least one');
  if (sentinels?.length === 0) throw invalid('has no address in `sentinels`; name at least one');
  if (cluster !== undefined && db !== 0) throw invalid(`has \`db\` ${db}, but a Cluster has only 0; leave it out`);
  if (!(maxRecordBytes > 0 && maxRecordBytes <= REDIS_MAX_BYTES)) {
    throw invalid(`has \`maxRecordBytes\` ${maxRecordBytes}; it must be between 1 and ${REDIS_MAX_BYTES}`);
  }
  for (const name of [
    'connectTimeoutMs',
    'silenceMs',
    'maxPendingCalls',
    'maxPendingBytes',
    'epochBacklog',
    'heartbeatMs',
  ] as const) {
    if (!(settings[name] > 0)) throw invalid(`has \`${name}\` ${settings[name]}; it must be more than 0`);
  }
}

function fromUrl(url: string | undefined): Partial<RedisStoreOptions> {
  if (url === undefined) return {};
  const parsed = URL.parse(url);
  if (parsed === null || !/^rediss?:$/.test(parsed.protocol)) {
    throw invalid('has a `url` that is none; it looks like redis://user:password@host:6379/0, or rediss:// for TLS');
  }
  const db = parsed.pathname.slice(1);
  if (!/^\d*$/.test(db)) throw invalid(`has a \`url\` whose database "${db}" is no number`);
  return {
    host: parsed.hostname.replace(/^\[(.*)\]$/, '$1'),
    ...(parsed.port !== '' && { port: Number(parsed.port) }),
    ...(parsed.username !== '' && { username: decodeURIComponent(parsed.username) }),
    ...(parsed.password !== '' && { password: decodeURIComponent(parsed.password) }),
    ...(db !== '' && { db: Number(db) }),
    ...(parsed.protocol === 'rediss:' && { tls: true }),
  };
}

function whereOf({ path, host, port, cluster, sentinels, masterName }: Omit<RedisSettings, 'where'>): string {
  if (cluster !== undefined) return `the Cluster of ${listed(cluster)}`;
  if (sentinels !== undefined) return `the master ${masterName} of the Sentinels ${listed(sentinels)}`;
  return path ?? `${host}:${port}`;
}

function listed(addresses: readonly RedisAddress[]): string {
  return addresses.map(({ host, port }) => `${host}:${port}`).join(', ');
}

function definedOf(options: RedisStoreOptions): RedisStoreOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function invalid(what: string): InferkvError {
  return new InferkvError('ERR_INFERKV_CONFIG_INVALID', `The Redis store ${what}.`);
}
