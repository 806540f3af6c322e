import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { isInferkvError } from '../../src/base/errors.ts';
import { ENTRY_OVERHEAD_BYTES } from '../../src/cache/entry-facts.ts';
import type { HeapPartition } from '../../src/cache/heap-partition.ts';
import { lru } from '../../src/policies/lru.ts';
import type { Policy } from '../../src/policies/policy.ts';
import { box, settle, type Box } from '../contracts/partition.ts';
import { heapBoxes } from '../support/heap-boxes.ts';

const facts = { sizeBytes: 10, costMs: 1 };
const ENTRY_BYTES = 10 + ENTRY_OVERHEAD_BYTES;

/** A partition with room for so many entries whose `free` does what the test says, and notes in which order. */
function freeing(
  entries: number,
  onFree: (value: Box, partition: HeapPartition<Box>) => void | Promise<void>,
): { readonly partition: HeapPartition<Box>; readonly freed: string[] } {
  const freed: string[] = [];
  const partition: HeapPartition<Box> = heapBoxes({
    budgetBytes: entries * ENTRY_BYTES,
    free: (value) => {
      freed.push(value.text);
      return onFree(value, partition);
    },
  });
  return { partition, freed };
}

describe('whoever frees a value', () => {
  it('sees the partition without it, and may read and change it', () => {
    const seen: (string | undefined)[] = [];
    const { partition } = freeing(3, ({ text }, it_) => {
      if (text !== 'a') return;
      seen.push(it_.get('a')?.text, it_.get('b')?.text, it_.explain('a').state);
      it_.delete('b');
    });
    for (const name of ['a', 'b', 'c']) partition.set(name, box(name), facts);
    partition.delete('a');
    assert.deepEqual(seen, [undefined, 'b', 'departed']);
    assert.deepEqual([...partition.keys()], ['c']);
    assert.equal(partition.stats().usedBytes, ENTRY_BYTES);
  });

  it('frees in turn what left by its own calls, not within', () => {
    let depth = 0;
    let deepest = 0;
    const { partition, freed } = freeing(10, (_value, it_) => {
      deepest = Math.max(deepest, ++depth);
      const [next] = it_.keys();
      if (next !== undefined) it_.delete(next);
      depth--;
    });
    for (let at = 0; at < 10; at++) partition.set(`k${at}`, box(`k${at}`), facts);
    partition.delete('k5');
    assert.equal(deepest, 1);
    assert.equal(freed.length, 10);
    assert.deepEqual([partition.stats().entries, partition.stats().usedBytes], [0, 0]);
  });

  it('may put back what it frees, as long as it likes: no call is inside another, and the books are right', () => {
    let times = 0;
    let depth = 0;
    let deepest = 0;
    const { partition } = freeing(2, (_value, it_) => {
      deepest = Math.max(deepest, ++depth);
      if (++times < 5000) it_.set('k', box(`again ${times}`), facts);
      depth--;
    });
    partition.set('k', box('first'), facts);
    partition.set('other', box('other'), facts);
    partition.set('third', box('third'), facts);
    assert.equal(deepest, 1);
    const { usedBytes, budgetBytes, entries } = partition.stats();
    assert.ok(usedBytes <= budgetBytes);
    assert.equal(usedBytes, entries * ENTRY_BYTES);
  });

  it('may put a value under the very key that made it leave: the newer stays', () => {
    const { partition, freed } = freeing(1, ({ text }, it_) => {
      if (text === 'old') it_.resize('new', 10);
      if (text === 'old') it_.set('new', box('by the callback'), { ...facts, sizeBytes: 0 });
    });
    partition.set('a', box('old'), facts);
    const kept = partition.set('new', box('by the caller'), facts);
    // The room that the old one leaves comes back only after its owner is done, so there is none for the callback yet.
    assert.equal(kept, true);
    assert.equal(partition.get('new')?.text, 'by the caller');
    assert.deepEqual(freed, ['old', 'by the callback']);
    assert.equal(partition.stats().usedBytes, ENTRY_BYTES);
  });

  it('is told of a refusal where the callback won', () => {
    const { partition, freed } = freeing(3, ({ text }, it_) => {
      if (text === 'a') it_.set('new', box('by the callback'), { ...facts, sizeBytes: 0 });
    });
    for (const name of ['a', 'b']) partition.set(name, box(name), facts);
    // Two have to go; with the first there is room for the callback's.
    const kept = partition.set('new', box('by the caller'), { ...facts, sizeBytes: 10 + ENTRY_BYTES });
    assert.equal(kept, false);
    assert.equal(partition.get('new')?.text, 'by the callback');
    assert.equal(partition.stats().refusedBy.superseded, 1);
    assert.ok(freed.includes('by the caller'));
    const { usedBytes, budgetBytes } = partition.stats();
    assert.ok(usedBytes <= budgetBytes);
  });

  it('may close the partition', async () => {
    const { partition, freed } = freeing(1, ({ text }, it_) => {
      if (text === 'a') void it_.close();
    });
    partition.set('a', box('a'), facts);
    assert.equal(partition.set('b', box('b'), facts), false);
    await settle();
    assert.deepEqual([partition.stats().entries, partition.stats().usedBytes], [0, 0]);
    assert.deepEqual(freed, ['a', 'b']);
    assert.equal(partition.stats().refusedBy.closed, 1);
  });

  it('may fail, at once or later; its bytes come back', async () => {
    const { partition } = freeing(2, ({ text }) => {
      if (text === 'a') throw new Error('at once');
      return Promise.reject(new Error('later'));
    });
    for (const name of ['a', 'b']) partition.set(name, box(name), facts);
    partition.delete('a');
    assert.equal(partition.stats().usedBytes, ENTRY_BYTES);
    partition.delete('b');
    await settle();
    assert.equal(partition.stats().usedBytes, 0);
  });
});

/** A policy that calls its partition whenever it is asked something, and gets over what that says. */
class Meddler implements Policy {
  readonly name = 'meddler';
  readonly errors: unknown[] = [];
  readonly #inner: Policy;
  readonly #meddle: () => void;

  constructor(inner: Policy, meddle: () => void) {
    this.#inner = inner;
    this.#meddle = meddle;
  }

  insert(slot: number): void {
    this.#try();
    this.#inner.insert(slot);
  }

  touch(slot: number): void {
    this.#try();
    this.#inner.touch(slot);
  }

  update(slot: number): void {
    this.#try();
    this.#inner.update(slot);
  }

  leave(slot: number, why: 'evicted' | 'removed'): void {
    this.#try();
    this.#inner.leave(slot, why);
  }

  victim(): number {
    this.#try();
    return this.#inner.victim();
  }

  #try(): void {
    try {
      this.#meddle();
    } catch (error) {
      this.errors.push(error);
    }
  }
}

describe('a policy that calls its partition', () => {
  for (const [what, meddle] of Object.entries({
    set: (it_: HeapPartition<Box>) => it_.set('x', box('x'), facts),
    delete: (it_: HeapPartition<Box>) => it_.delete('k1'),
    resize: (it_: HeapPartition<Box>) => it_.resize('k1', 50),
    invalidateTag: (it_: HeapPartition<Box>) => it_.invalidateTag('t'),
  })) {
    it(`is refused: ${what}`, () => {
      let meddler: Meddler | undefined;
      let isOn = false;
      const partition: HeapPartition<Box> = heapBoxes({
        budgetBytes: 3 * ENTRY_BYTES,
        policy: (context) => (meddler = new Meddler(lru(context), () => isOn && meddle(partition))),
      });
      isOn = true;
      for (let at = 0; at < 200; at++) {
        partition.set(`k${at % 5}`, box(`${at}`), facts);
        partition.get(`k${at % 3}`);
      }
      partition.resize('k4', 5);
      partition.delete('k4');
      const { errors } = meddler ?? { errors: [] };
      assert.ok(errors.length > 100);
      for (const error of errors) assert.ok(isInferkvError(error, 'ERR_INFERKV_REENTRANT'), String(error));
      const { usedBytes, entries, budgetBytes } = partition.stats();
      assert.ok(usedBytes <= budgetBytes);
      assert.equal(usedBytes, entries * ENTRY_BYTES);
    });
  }

  it('may read, which counts for nothing, and may fail without the partition staying shut', () => {
    let fails = false;
    const partition: HeapPartition<Box> = heapBoxes({
      budgetBytes: 3 * ENTRY_BYTES,
      policy: (context) => {
        const inner = lru(context);
        return {
          name: 'reader',
          insert: (slot) => {
            for (let at = 0; at < 100; at++) partition.get('a');
            inner.insert(slot);
          },
          touch: (slot) => {
            if (fails) throw new Error('policy broken');
            inner.touch(slot);
          },
          update: () => undefined,
          leave: (slot, why) => inner.leave(slot, why),
          victim: () => inner.victim(),
        };
      },
    });
    partition.set('a', box('a'), facts);
    partition.set('b', box('b'), facts);
    partition.get('a');
    fails = true;
    assert.throws(() => partition.set('c', box('c'), facts), /policy broken/);
    fails = false;
    partition.delete('a');
    partition.delete('b');
    assert.equal(partition.get('a'), undefined);
    assert.equal(partition.set('d', box('d'), { ...facts, sizeBytes: 0 }), true);
  });
});
