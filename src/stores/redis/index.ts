/** Records in Redis or Valkey: one server, a master that Sentinels know, or a Cluster. */
import type { Store } from '../store.ts';
import { settingsOf, type RedisStoreOptions } from './options.ts';
import { RedisStore } from './redis-store.ts';

export type { RedisAddress, RedisStoreOptions } from './options.ts';

/**
 * A store in Redis: docs/stores/redis.md. It connects with the first call, and needs the package ioredis.
 *
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` for options that cannot be
 */
export function createRedisStore(options: RedisStoreOptions = {}): Store {
  return new RedisStore(settingsOf(options));
}
