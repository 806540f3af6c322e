import { randomBytes } from 'node:crypto';

import { systemClock, systemWallClock, type Clock, type WallClock } from '../../base/clock.ts';
import { InferkvError } from '../../base/errors.ts';
import { FreshNumbers } from '../fresh-numbers.ts';
import { OpenCalls } from '../open-calls.ts';
import type { Store } from '../store.ts';
import { Connection, type SaslUser } from './connection.ts';
import { createEpochs, createGrants } from './counters.ts';
import { Ring } from './ring.ts';
import { Servers } from './servers.ts';
import { MemcachedStore } from './store.ts';

export type { SaslUser } from './connection.ts';

/** Options of a store in memcached. */
export interface MemcachedStoreOptions {
  /** `host:port`, each; 11211 if there is no port. Each has its share of the names. `['127.0.0.1:11211']` if left out. */
  readonly servers?: readonly string[] | undefined;
  /** Who one is to servers that ask (`memcached -S`), by SASL PLAIN: the password crosses the network as it is. */
  readonly sasl?: SaslUser | undefined;
  /** What all names begin with: 1 to 32 printable ASCII characters. `inferkv:` if left out. Another one for another list of servers. */
  readonly prefix?: string | undefined;
  /** The longest item that the servers take, with what they add to it (their `-I`); 1 MiB if left out. What is longer is cut into chunks. */
  readonly maxItemBytes?: number | undefined;
  /** The longest record; 64 MiB if left out. */
  readonly maxRecordBytes?: number | undefined;
  /** A server that is asked and says nothing for so long is given up until it is asked again; 5,000 ms if left out. */
  readonly silenceMs?: number | undefined;
  readonly clock?: Clock | undefined;
  readonly wallClock?: WallClock | undefined;
  /** Gives 16 bytes that nobody else gives; random ones if left out. */
  readonly newGeneration?: (() => Uint8Array) | undefined;
}

const DEFAULT_PORT = 11_211;
const DEFAULT_ITEM_BYTES = 2 ** 20;
const DEFAULT_RECORD_BYTES = 64 * 2 ** 20;
// The longest key, and what memcached itself puts before an item, which differs a little between its versions.
const ITEM_OVERHEAD_BYTES = 512;
const MIN_ITEM_BYTES = 2048;
const MAX_PENDING = 131_072;
const MAX_UNSENT_BYTES = 64 * 2 ** 20;
const PREFIX = /^[\x21-\x7e]{1,32}$/;
const ADDRESS = /^(?:\[(?<six>[^\]]+)\]|(?<host>[^:\s]+))(?::(?<port>\d{1,5}))?$/;

/**
 * Records in memcached, one server or several.
 *
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for options that cannot be
 */
export function createMemcachedStore(options: MemcachedStoreOptions = {}): Store {
  const {
    servers = [`127.0.0.1:${DEFAULT_PORT}`],
    prefix = 'inferkv:',
    maxItemBytes = DEFAULT_ITEM_BYTES,
    maxRecordBytes = DEFAULT_RECORD_BYTES,
    silenceMs = 5000,
    clock = systemClock,
    wallClock = systemWallClock,
    newGeneration = () => randomBytes(16),
  } = options;
  if (!PREFIX.test(prefix)) throw invalid('prefix', prefix, '1 to 32 printable ASCII characters without spaces');
  if (!(maxItemBytes >= MIN_ITEM_BYTES)) throw invalid('maxItemBytes', maxItemBytes, `${MIN_ITEM_BYTES} or more`);
  if (!(maxRecordBytes > 0 && maxRecordBytes < 2 ** 32)) throw invalid('maxRecordBytes', maxRecordBytes, 'below 4 GiB');
  if (!(silenceMs > 0)) throw invalid('silenceMs', silenceMs, 'above 0');
  const addresses = [...new Map(servers.map(addressOf).map((each) => [`${each.host}:${each.port}`, each])).values()];
  if (addresses.length === 0) throw invalid('servers', '[]', 'one address or more');
  const connections = addresses.map(
    (address) =>
      new Connection({
        ...address,
        sasl: options.sasl,
        silenceMs,
        maxPending: MAX_PENDING,
        maxUnsentBytes: MAX_UNSENT_BYTES,
        maxBodyBytes: maxItemBytes + ITEM_OVERHEAD_BYTES,
        clock,
      }),
  );
  const counters = {
    servers: new Servers(connections, new Ring(connections.map(({ address }) => address))),
    calls: new OpenCalls('memcached'),
    prefix,
    numbers: new FreshNumbers(wallClock),
    wallClock,
  };
  return new MemcachedStore({
    ...counters,
    itemBytes: maxItemBytes - ITEM_OVERHEAD_BYTES,
    maxRecordBytes,
    newGeneration,
    epochs: createEpochs(counters),
    grants: createGrants(counters),
  });
}

function addressOf(text: string): { readonly host: string; readonly port: number } {
  const { six, host, port } = ADDRESS.exec(text)?.groups ?? {};
  const number = port === undefined ? DEFAULT_PORT : Number(port);
  if ((six ?? host) === undefined || number < 1 || number > 65_535) throw invalid('servers', text, 'host:port');
  return { host: (six ?? host) as string, port: number };
}

function invalid(option: string, value: unknown, expected: string): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    `The option ${option} of the memcached store is ${String(value)}; it must be ${expected}.`,
    { key: option },
  );
}
