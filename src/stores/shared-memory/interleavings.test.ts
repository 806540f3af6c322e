/**
 * Every order that matters of one lookup and the owner's work, played in one thread: the owner acts in the middle of the
 * lookup, at a chosen step of it. What real threads do by chance, this does for sure.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import {
  countTorn,
  digestOf,
  fillPattern,
  policyOf,
  seedBytes,
  seedOf,
  storeOf,
} from '../../../test/support/shared-memory.ts';
import { createRandom, type Random } from '../../base/random.ts';
import { SharedMemoryReader } from './reader.ts';
import type { SharedMemoryStore } from './store.ts';

const VALUE_BYTES = 4000;
const [target, other] = [digestOf(0), digestOf(1)];
const STEPS = ['probing', 'chosen', 'pinned', 'checked'] as const;

let lastSeed = 0;

/** Puts a value that says by itself what it is: its seed is in its metadata, and the key in the seed. */
function put(store: SharedMemoryStore, key: number): void {
  const seed = (++lastSeed << 8) | key;
  const write = (into: Uint8Array): void => fillPattern(into, seed);
  store.put(digestOf(key), { lengthBytes: VALUE_BYTES, write }, { costMs: 1, metadata: seedBytes(seed) });
}

/** Writes over everything that may be written over. */
function churn(store: SharedMemoryStore): void {
  for (let key = 100; key < 120; key++) put(store, key);
}

/** What the owner may do meanwhile, and whether the lookup may, must or cannot find the entry after it. */
const ACTIONS: Readonly<Record<string, { readonly finds: boolean | undefined; act(store: SharedMemoryStore): void }>> =
  {
    nothing: { finds: true, act: () => undefined },
    'deletes it': { finds: undefined, act: (store) => void store.delete(target) },
    'deletes it, and uses its memory and record again': {
      finds: undefined,
      act(store) {
        store.delete(target);
        churn(store);
      },
    },
    'replaces it': { finds: true, act: (store) => put(store, 0) },
    'replaces it again and again': {
      finds: true,
      act(store) {
        for (let i = 0; i < 50; i++) put(store, 0);
      },
    },
    'deletes it and puts it again': {
      finds: undefined,
      act(store) {
        store.delete(target);
        put(store, 0);
      },
    },
    'evicts it': { finds: undefined, act: churn },
    'hides everything': { finds: undefined, act: (store) => store.invalidate() },
    'closes the store': { finds: undefined, act: (store) => store.close() },
    'deletes another': { finds: true, act: (store) => void store.delete(other) },
  };

function assertWhole(lease: ReturnType<SharedMemoryReader['lease']>, key: number): void {
  if (lease === undefined) return;
  const seed = seedOf(lease.metadata);
  assert.equal(seed & 0xff, key, "another key's value");
  assert.equal(countTorn(lease.bytes, seed), 0, 'a torn value');
}

/** Looks again and again for what is there all the time, while around it entries come and go and so move. */
function missesUnderMoves(random: Random): number {
  // A small index, so that entries stand close together, in another order for each seed.
  const store = storeOf(128 * 1024, { maxEntries: 16, seed: () => random.below(2 ** 31) });
  const insert = (key: number): void => void store.put(digestOf(key), Uint8Array.of(key), { costMs: 1 });
  const present = [1, 2, 3, 4];
  const passing = Array.from({ length: 11 }, (_, i) => 10 + i);
  let misses = 0;
  let left = 0;
  const reader = SharedMemoryReader.attach(store.handle(), {
    onStep(step) {
      // The owner is quick, but not so quick that it changes the index at every step of all attempts.
      if (step !== 'probing' || left-- <= 0) return;
      store.delete(digestOf(passing[random.below(passing.length)] as number));
    },
  });
  for (let round = 0; round < 40; round++) {
    // Those that stay come last, so that they stand behind others.
    for (const each of [...passing, ...present]) store.delete(digestOf(each));
    for (const each of [...passing, ...present]) insert(each);
    left = 30;
    const key = present[round % present.length] as number;
    using lease = reader.lease(digestOf(key));
    if (lease === undefined) misses++;
    else assert.equal(lease.bytes[0], key);
  }
  // There are more records than entries, so nothing was ever evicted.
  assert.equal(store.stats().evictions, 0);
  return misses;
}

describe('a lookup, and the owner in the midst of it', () => {
  for (const step of STEPS) {
    for (const [name, action] of Object.entries(ACTIONS)) {
      it(`${step}; then the owner ${name}`, () => {
        const store = storeOf(64 * 1024, { maxEntries: 32 });
        put(store, 0);
        put(store, 1);
        let acted = false;
        const reader = SharedMemoryReader.attach(store.handle(), {
          onStep(at) {
            if (at !== step || acted) return;
            acted = true;
            action.act(store);
          },
        });
        const lease = reader.lease(target);
        assert.equal(acted, true);
        if (action.finds !== undefined) assert.equal(lease !== undefined, action.finds);
        assertWhole(lease, 0);
        // However it was found, nothing overwrites it before it is released.
        churn(store);
        churn(store);
        assertWhole(lease, 0);
        lease?.release();
        churn(store);
        const { activeLeases, retiredBytes } = store.stats();
        assert.deepEqual([activeLeases, retiredBytes], [0, 0]);
      });
    }
  }

  it('finds what is there all the time, however the index moves', () => {
    let misses = 0;
    for (let seed = 1; seed <= 300; seed++) misses += missesUnderMoves(createRandom(seed));
    assert.equal(misses, 0);
  });

  it('keeps what is pinned between the choice of a victim and its leaving', () => {
    let lease: ReturnType<SharedMemoryReader['lease']>;
    let reader: SharedMemoryReader | undefined;
    const store = storeOf(64 * 1024, {
      maxEntries: 32,
      policy: (slots) => {
        const policy = policyOf('lru')(slots);
        const leave = policy.leave.bind(policy);
        return Object.assign(policy, {
          leave(...[slot, why, cause]: Parameters<typeof leave>) {
            lease ??= reader?.lease(slots.digest(slot));
            leave(slot, why, cause);
          },
        });
      },
    });
    for (let key = 0; key < 10; key++) put(store, key);
    reader = SharedMemoryReader.attach(store.handle());
    churn(store);
    churn(store);
    assert.notEqual(lease, undefined);
    assertWhole(lease, 0);
    assert.equal(store.stats().retiredBytes > 0, true);
  });

  it('leaves nothing pinned where it fails in the midst of it', () => {
    for (const step of STEPS) {
      const store = storeOf(64 * 1024, { maxEntries: 32 });
      put(store, 0);
      const reader = SharedMemoryReader.attach(store.handle(), {
        onStep(at) {
          if (at === step) throw new Error('out of memory');
        },
      });
      for (let i = 0; i < 300; i++) assert.throws(() => reader.lease(target), /out of memory/);
      assert.equal(store.stats().activeLeases, 0);
    }
  });
});
