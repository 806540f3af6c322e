import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { formatBytes, parseBytes } from './bytes.ts';

describe('sizes in bytes', () => {
  it('are numbers, units or shares', () => {
    const cases: readonly (readonly [number | string, number | undefined])[] = [
      [1000, 1000],
      [1.9, 1],
      ['512', 512],
      ['4kb', 4000],
      ['4 KiB', 4096],
      ['1.5GB', 1.5e9],
      [' 2 GiB ', 2 * 2 ** 30],
      ['25%', 250],
      ['100%', 1000],
    ];
    for (const [given, bytes] of cases) assert.equal(parseBytes(given, 1000), bytes, String(given));
  });

  it('are nothing else', () => {
    for (const given of [
      0,
      -1,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      '',
      '0',
      '-5MB',
      '101%',
      '5 parsecs',
      'GB',
      '1e9',
      '5MB!',
      '99999999TB',
    ]) {
      assert.equal(parseBytes(given, 1000), undefined, String(given));
    }
  });

  it('are written for people', () => {
    assert.deepEqual([0, 999, 1000, 12_345, 102_138_828, 5e12].map(formatBytes), [
      '0 B',
      '999 B',
      '1.0 kB',
      '12 kB',
      '102 MB',
      '5.0 TB',
    ]);
  });
});
