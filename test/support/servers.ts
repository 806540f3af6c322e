import { createDiskStore } from '../../src/stores/disk/index.ts';
import { createDynamoDbStore } from '../../src/stores/dynamodb/index.ts';
import { createMemcachedStore } from '../../src/stores/memcached/index.ts';
import { createRedisStore } from '../../src/stores/redis/index.ts';
import { SharedMemoryRecords } from '../../src/stores/shared-memory/record-store.ts';
import type { Store } from '../../src/stores/store.ts';
import { Dynalite } from './dynalite.ts';
import { MemcachedServer } from './memcached-server.ts';
import { RedisServer } from './redis-server.ts';
import { policyOf } from './shared-memory.ts';
import { TempFolder } from './temp.ts';

/** A kind of store with all that it needs. */
export interface RunningStores {
  /** Another store object over the same records; in shared memory it has its own. */
  open(): Store;
  stop(): Promise<void>;
}

/** Starts what each of the five stores needs. */
export const STORES: Readonly<Record<string, () => Promise<RunningStores>>> = {
  'shared-memory': async () => ({
    open: () => new SharedMemoryRecords({ budgetBytes: 16 * 2 ** 20, policy: policyOf('lru') }),
    stop: async () => undefined,
  }),
  disk: async () => {
    const folder = new TempFolder();
    return {
      open: () => createDiskStore({ folder: folder.path, budgetBytes: 64 * 2 ** 20 }),
      stop: async () => folder[Symbol.dispose](),
    };
  },
  redis: async () => {
    const server = await RedisServer.start();
    return { open: () => createRedisStore({ port: server.port }), stop: () => server[Symbol.asyncDispose]() };
  },
  memcached: async () => {
    const server = await MemcachedServer.start();
    return { open: () => createMemcachedStore({ servers: [server.address] }), stop: () => server.kill() };
  },
  dynamodb: async () => {
    const server = await Dynalite.start();
    return { open: () => createDynamoDbStore(server.options()), stop: () => server.kill() };
  },
};
