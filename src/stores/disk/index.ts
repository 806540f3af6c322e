/** Records in a folder. */
export { DiskStore, type DiskStoreOptions } from './store.ts';
