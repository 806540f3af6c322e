import type { InferenceCacheOptions } from '../compose.ts';
import type { InferkvConfig } from '../config/schema.ts';

/** What a configuration says of the cache; names of policies are checked when the cache is made. */
export function cacheOptionsOf({ server: _server, ...options }: InferkvConfig): InferenceCacheOptions {
  return options as InferenceCacheOptions;
}
