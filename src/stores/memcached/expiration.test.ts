import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { expirationOf } from './expiration.ts';

const NOW = 1_800_000_000_500;
const DAY = 24 * 3600;

describe('expiry in memcached', () => {
  const of = (ttlMs: number | undefined): number => expirationOf(ttlMs, () => NOW);

  it('is never early: rounded up, and a second for its clock', () => {
    assert.deepEqual([0, 1, 999, 1000, 1001, 60_000].map(of), [1, 2, 2, 2, 3, 61]);
  });

  it('is a moment beyond 30 days, where seconds would be taken for one', () => {
    assert.equal(of((30 * DAY - 1) * 1000), 30 * DAY);
    assert.equal(of(30 * DAY * 1000), 1_800_000_001 + 30 * DAY + 1);
  });

  it('is never for no time to live, and for one beyond what 32 bits hold', () => {
    assert.deepEqual([undefined, Number.POSITIVE_INFINITY, 20 * 365 * DAY * 1000].map(of), [0, 0, 0]);
  });
});
