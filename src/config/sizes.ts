import { totalmem } from 'node:os';

import { parseBytes } from '../base/bytes.ts';
import { InferkvError } from '../base/errors.ts';

/** Bytes of memory this process may use: the container's limit (cgroup v1 or v2) where there is one, else the machine's. */
export function memoryBytes(): number {
  return Math.min(process.constrainedMemory() || Number.POSITIVE_INFINITY, totalmem());
}

/**
 * Bytes of a setting: a number, a size (`512MB`), or a share (`25%`) of `totalBytes`.
 *
 * @param path where the setting stands, for the message
 * @param totalBytes the memory this process may use, if left out
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`
 */
export function bytesOfSetting(path: string, value: number | string, totalBytes: number = memoryBytes()): number {
  const bytes = parseBytes(value, totalBytes);
  if (bytes !== undefined) return bytes;
  throw new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    `${path}: ${JSON.stringify(value)} is no size; give bytes above zero, a size like "512MB", or a share like "25%".`,
  );
}
