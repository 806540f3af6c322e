import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import type { Key } from './partition.ts';
import { identityOf, KeyIndex } from './key-index.ts';

type Step = { readonly do: 'add' | 'remove' | 'find'; readonly key: Key };

/** Keys of all lengths, many of them alike in the characters that are hashed. */
const keys = fc.oneof(
  fc.string({ maxLength: 8 }),
  fc.string({ unit: 'grapheme', maxLength: 60 }),
  fc.nat(40).map((n) => `${'a'.repeat(50)}${n}`),
  fc.nat(40).map((n) => `${n}-tail-that-all-share`),
  fc.nat(200).map((n) => createHash('sha256').update(String(n)).digest('hex')),
);

function play(steps: readonly Step[]): void {
  const rows: unknown[] = [];
  const index = new KeyIndex(rows);
  const model = new Map<Key, number>();
  const free: number[] = [];
  for (const { do: what, key } of steps) {
    assert.equal(index.find(key), model.get(key) ?? -1);
    assert.ok(!index.hasJustMissed(key) || !model.has(key));
    if (what === 'add' && !model.has(key)) {
      const slot = free.pop() ?? model.size;
      if (2 * slot >= rows.length) rows.push(undefined, undefined);
      index.add(key, slot);
      assert.equal(index.hasJustMissed(key), false);
      model.set(key, slot);
    }
    if (what === 'remove' && model.has(key)) {
      const slot = model.get(key) ?? -1;
      index.remove(slot);
      free.push(slot);
      model.delete(key);
    }
    assert.equal(index.size, model.size);
  }
  for (const [key, slot] of model) {
    assert.equal(index.find(key), slot);
    assert.equal(index.keyOf(slot), key);
  }
  assert.deepEqual([...index.keys()].toSorted(), [...model.keys()].toSorted());
}

describe('the index of keys', () => {
  it('finds what a map finds', () => {
    const step = fc.record({
      do: fc.constantFrom('add' as const, 'add' as const, 'remove' as const, 'find' as const),
      key: keys,
    });
    fc.assert(fc.property(fc.array(step, { maxLength: 300, size: 'max' }), play), { numRuns: 300 });
  });

  it('finds keys that its hash does not tell apart', () => {
    const alike = Array.from({ length: 5000 }, (_, at) => `https://example.org/a/long/common/beginning/${at}/and-end`);
    const steps = alike.flatMap((key, at): Step[] => [
      { do: 'add', key },
      { do: at % 3 === 0 ? 'remove' : 'find', key: alike[at >> 1] ?? key },
    ]);
    play(steps);
  });

  it('finds digests while it grows and shrinks', () => {
    const digests = Array.from({ length: 3000 }, (_, at) => createHash('sha256').update(String(at)).digest('hex'));
    play([
      ...digests.map((key): Step => ({ do: 'add', key })),
      ...digests.map((key): Step => ({ do: 'remove', key })),
      ...digests.toReversed().map((key): Step => ({ do: 'add', key })),
    ]);
  });

  it('leaves keys that are made to gather in one place to a map', (t) => {
    // The inverse of what hashes are multiplied by: what is wanted of a hash says which characters give it.
    const inverse = 0x0e8b2f51;
    const gathering = Array.from({ length: 2000 }, (_, at) => {
      const mixed = Math.imul((at << 16) | (at ^ 77), inverse);
      return String.fromCharCode(...[0, 5, 10, 15, 20].map((shift) => (mixed >>> shift) & 31), mixed >>> 25);
    });
    assert.equal(new Set(gathering).size, gathering.length);
    const index = new KeyIndex([]);
    for (const [slot, key] of gathering.entries()) index.add(key, slot);
    const { mock } = t.mock.method(Map.prototype, 'get');
    assert.ok(gathering.every((key, slot) => index.find(key) === slot));
    assert.equal(mock.callCount(), gathering.length);
    t.mock.restoreAll();
    play(gathering.map((key): Step => ({ do: 'add', key })));
  });

  it('gives fingerprints that tell digests, numbers and short words apart', () => {
    const words = Array.from({ length: 20_000 }, (_, at) => `user:${at}`);
    const digests = words.map((word) => createHash('sha256').update(word).digest('hex'));
    for (const list of [words, digests]) {
      const different = new Set(list.map((key) => identityOf(key)));
      assert.ok(different.size >= list.length - 2, `${different.size}`);
    }
    assert.ok(words.every((key) => Number.isInteger(identityOf(key)) && identityOf(key) >= 0));
  });
});
