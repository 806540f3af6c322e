import { DiskStore } from './disk-store.ts';
import type { DiskStoreOptions } from './options.ts';

export type { DiskStats } from './disk-store.ts';
export type { DiskStore } from './disk-store.ts';
export type { FileLayer } from './files.ts';
export { systemFiles } from './files.ts';
export type { DiskStoreOptions } from './options.ts';
export type { DiskFault } from './shelf.ts';

/**
 * A store in a folder of this machine, for one process or several. The folder is opened by the first call. In a process, one
 * thread only may have disk stores.
 *
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` where an option is out of range
 */
export function createDiskStore(options: DiskStoreOptions): DiskStore {
  return new DiskStore(options);
}
