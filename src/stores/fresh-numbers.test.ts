import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { counterName, FreshNumbers } from './fresh-numbers.ts';

describe('fresh numbers', () => {
  it('are microseconds since 1970, and above all that was seen', () => {
    let now = 1_800_000_000_000;
    const numbers = new FreshNumbers(() => now);
    assert.equal(numbers.next(), 1_800_000_000_000_000);
    assert.equal(numbers.seen(1_800_000_000_000_007), 1_800_000_000_000_007);
    assert.equal(numbers.next(), 1_800_000_000_000_008);
    numbers.seen(5);
    now -= 60_000;
    assert.equal(numbers.next(), 1_800_000_000_000_008, 'a clock that goes back changes nothing');
    now += 60_001;
    assert.equal(numbers.next(), 1_800_000_000_001_000);
    now = Date.UTC(2255, 0);
    assert.ok(Number.isSafeInteger(numbers.next()));
  });

  it('name counters injectively, whatever a scope holds', () => {
    const names = ['model:a', 'model:a ', 'ö', '\n', '', 'x'.repeat(10_000)].map(counterName);
    assert.equal(new Set(names).size, names.length);
    for (const name of names) assert.match(name, /^[\w-]{43}$/);
  });
});
