/** Records in Memcached. */
export { MemcachedStore, type MemcachedStoreOptions } from './store.ts';
