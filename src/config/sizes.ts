import { totalmem } from 'node:os';

import { parseBytes } from '../base/bytes.ts';
import { InferkvError } from '../base/errors.ts';

/**
 * Bytes of a setting: a number, a size (`512MB`), or a share (`25%`) of the memory this process may use.
 *
 * @param path where the setting stands, for the message
 * @throws InferkvError `ERR_INFERKV_CONFIG_INVALID`
 */
export function bytesOfSetting(path: string, value: number | string): number {
  // The container's limit where there is one.
  const total = Math.min(process.constrainedMemory() || Number.POSITIVE_INFINITY, totalmem());
  const bytes = parseBytes(value, total);
  if (bytes !== undefined) return bytes;
  throw new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    `${path}: ${JSON.stringify(value)} is no size; give bytes above zero, a size like "512MB", or a share like "25%".`,
  );
}
