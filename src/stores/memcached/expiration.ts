import type { WallClock } from '../../base/clock.ts';

const MONTH_SECONDS = 30 * 24 * 3600;
const MAX_MOMENT = 2 ** 31 - 1;

/**
 * A time to live as memcached takes it: seconds from now up to 30 days, a moment in seconds since 1970 beyond; 0 for never.
 * Rounded up, and one second more: its own clock ticks once a second, so that an item lives up to a second less than it is told.
 */
export function expirationOf(ttlMs: number | undefined, wallClock: WallClock): number {
  if (ttlMs === undefined || !Number.isFinite(ttlMs)) return 0;
  const seconds = Math.max(0, Math.ceil(ttlMs / 1000)) + 1;
  if (seconds <= MONTH_SECONDS) return seconds;
  // A moment that 32 bits cannot hold is as good as never.
  const moment = Math.ceil(wallClock() / 1000) + seconds;
  return moment > MAX_MOMENT ? 0 : moment;
}
