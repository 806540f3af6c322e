import type { CacheReport } from '../inference/result-cache.ts';

/**
 * The value of the header `Cache-Status` (RFC 9211): `inferkv; hit; tier=memory; saved-ms=39.214; key="..."`.
 * `tier` and `saved-ms` are ours; the rest is the RFC's.
 */
export function cacheStatusOf({ status, tier, savedMs, key, costMs }: CacheReport): string {
  const keyed = key === undefined ? '' : `; key="${key}"`;
  switch (status) {
    case 'hit':
      return `inferkv; hit; tier=${tier ?? 'memory'}; saved-ms=${decimal(savedMs)}${keyed}`;
    case 'joined':
      return `inferkv; fwd=miss; collapsed; cost-ms=${decimal(costMs)}${keyed}`;
    case 'miss':
      return `inferkv; fwd=miss; cost-ms=${decimal(costMs)}${keyed}`;
    case 'bypass':
      return `inferkv; fwd=bypass; cost-ms=${decimal(costMs)}`;
    default:
      return status satisfies never;
  }
}

/** A decimal of structured fields (RFC 9651): at most three digits behind the point. */
function decimal(value: number): string {
  return value.toFixed(3);
}
