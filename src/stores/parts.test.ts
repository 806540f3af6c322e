import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { copyOfParts, tokenOfParts, viewsOfParts } from './parts.ts';

const partsOf = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 });

describe('parts of a record', () => {
  it('are cut as if they were one', () => {
    fc.assert(
      fc.property(partsOf, fc.nat(120), fc.nat(120), (parts, a, b) => {
        const whole = Buffer.concat(parts);
        const from = Math.min(a, whole.length);
        const length = Math.min(b, whole.length - from);
        const expected = whole.subarray(from, from + length);
        assert.equal(Buffer.compare(copyOfParts(parts, from, length), expected), 0);
        assert.equal(Buffer.compare(Buffer.concat(viewsOfParts(parts, from, length)), expected), 0);
      }),
    );
  });

  it('carry a token wherever they are cut', () => {
    const record = Buffer.alloc(80);
    record.writeBigUInt64BE(1_800_000_000_000_123n, 48);
    for (let cut = 0; cut <= 80; cut++) {
      assert.equal(tokenOfParts([record.subarray(0, cut), record.subarray(cut)]), 1_800_000_000_000_123);
    }
    assert.equal(tokenOfParts([record.subarray(0, 55)]), 0);
    assert.equal(tokenOfParts([Buffer.alloc(80, 255)]), Number.MAX_SAFE_INTEGER, 'no record at all');
  });
});
