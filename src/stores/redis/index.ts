/** Records in Redis or Valkey. */
export { RedisStore, type RedisStoreOptions } from './store.ts';
export type { RedisAddress, RedisConnection } from './client.ts';
