import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { MapServer, MapStore } from '../../test/support/map-store.ts';
import { FakeClock } from '../base/clock.ts';
import { createRandom } from '../base/random.ts';
import { createPolicy } from '../policies/registry.ts';
import type { Store } from '../stores/store.ts';
import { Epochs } from '../tiers/epochs.ts';
import { Tier } from '../tiers/tier.ts';
import { TierStack, type Level } from '../tiers/tier-stack.ts';
import { Worth } from '../tiers/worth.ts';
import { HeapPartition } from './heap-partition.ts';
import type { Fetched, Loaded } from './partition.ts';
import { TieredPartition } from './tiered-partition.ts';
import type { ValueCodec } from './value-codec.ts';

const texts: ValueCodec<string> = {
  encode: (value) => {
    if (value.includes('!')) throw new Error('no form outside of memory');
    const bytes = Buffer.from(value);
    return { lengthBytes: bytes.length, metadata: Uint8Array.of(1), write: (into) => into.set(bytes) };
  },
  decode: (bytes) => {
    const text = Buffer.from(bytes).toString();
    if (text.includes('?')) throw new Error('not a value of this version');
    return text;
  },
};

interface Made {
  readonly partition: TieredPartition<string>;
  readonly epochs: Epochs;
  readonly clock: FakeClock;
}

const settle = (): Promise<void> => new Promise(setImmediate);

function make(stores: readonly Store[], options: { readonly write?: 'through' | 'around' } = {}): Made {
  const clock = new FakeClock();
  const wallClock = (): number => 1_800_000_000_000 + clock.now();
  const random = createRandom(1);
  const epochs = new Epochs({ authority: stores.at(-1)?.epochs, clock, base: 1, maxStaleMs: 1e9 });
  const levels = stores.map((store, at): Level => ({
    tier: new Tier({ name: `tier${at}`, store, wallClock }),
    worth: new Worth({ expectedMs: () => undefined, learn: () => undefined }, clock, random),
    write: 'through',
    writeBack: undefined,
    promotion: 'always',
    minUses: 0,
    minCostMs: 0,
  }));
  const partition = new TieredPartition<string>({
    memory: (watcher) =>
      new HeapPartition<string>({
        name: 'results',
        budgetBytes: 1e6,
        policy: (context) => createPolicy('lru', context),
        clock,
        random,
        watcher,
      }),
    stack: new TierStack({ partition: 'results', levels, epochs }),
    epochs,
    codec: texts,
    clock,
    wallClock,
    write: options.write ?? 'through',
    promotes: true,
  });
  return { partition, epochs, clock };
}

const loaded = (value: string): Loaded<string> => ({ value, sizeBytes: value.length, costMs: 5, tags: ['t'] });

/** A store whose reads wait until a test lets them go. */
class GatedStore extends MapStore {
  gate: Promise<void> = Promise.resolve();

  override async get(name: string): Promise<Uint8Array | undefined> {
    const found = await super.get(name);
    await this.gate;
    return found;
  }
}

describe('tiered partition', () => {
  const fetch = async ({ partition }: Made, value: string): Promise<string> => {
    const { lease, status, tier } = await partition.fetch('k', async () => loaded(value), { tags: ['t'] });
    using held = lease;
    return `${status} ${tier ?? '-'} ${held.value}`;
  };

  /** Begins a load of `old` that ends with a gate. */
  const fetchBehind = ({ partition }: Made, gate: Promise<void>): Promise<Fetched<string>> =>
    partition.fetch(
      'k',
      async () => {
        await gate;
        return loaded('old');
      },
      { tags: ['t'] },
    );

  it('looks further down before it loads, and brings nearer what it finds', async () => {
    const [near, far] = [new MapServer(), new MapServer()];
    assert.equal(await fetch(make([new MapStore('far', far)]), 'a'), 'miss - a');
    const made = make([new MapStore('near', near), new MapStore('far', far)]);
    assert.equal(await fetch(made, 'b'), 'hit remote a');
    assert.equal(await fetch(made, 'b'), 'hit memory a');
    await made.partition.flush();
    assert.equal(near.records.size, 1, 'it is in the nearer tier now');
  });

  it('keeps nothing that was invalidated while it was loaded, and believes nothing of it later', async () => {
    const server = new MapServer();
    const made = make([new MapStore('map', server)]);
    const gate = Promise.withResolvers<void>();
    const fetching = fetchBehind(made, gate.promise);
    await settle();
    made.partition.invalidateTag('t');
    gate.resolve();
    (await fetching).lease.release();
    assert.equal(made.partition.get('k'), undefined);
    await made.partition.flush();
    assert.equal(await fetch(make([new MapStore('map', server)]), 'new'), 'miss - new');
  });

  it('does not bring back what was deleted while it was looked for', async () => {
    const [near, far] = [new MapServer(), new MapServer()];
    await fetch(make([new MapStore('far', far)]), 'a');
    const slow = new GatedStore('far', far);
    const made = make([new MapStore('near', near), slow]);
    const gate = Promise.withResolvers<void>();
    slow.gate = gate.promise;
    const fetching = fetch(made, 'b');
    await settle();
    made.partition.delete('k');
    gate.resolve();
    assert.equal(await fetching, 'hit remote a', 'who asked before gets what was there');
    await made.partition.flush();
    assert.deepEqual([near.records.size, far.records.size], [0, 0]);
    assert.equal(made.partition.get('k'), undefined);
  });

  it('takes a record that is whole and no value for a miss', async () => {
    const server = new MapServer();
    await fetch(make([new MapStore('map', server)]), 'what?');
    const made = make([new MapStore('map', server)]);
    assert.equal(await fetch(made, 'new'), 'miss - new');
  });

  it('serves and keeps in memory what has no form outside of it', async () => {
    const server = new MapServer();
    const made = make([new MapStore('map', server)]);
    assert.equal(await fetch(made, 'sh!'), 'miss - sh!');
    assert.equal(await fetch(made, 'other'), 'hit memory sh!');
    assert.equal(server.records.size, 0);
    assert.deepEqual(await made.partition.put('x', 'no!', { sizeBytes: 3, costMs: 1 }), { memory: true, tiers: {} });
  });

  it('says which tiers have what was put', async () => {
    const server = new MapServer();
    const made = make([new MapStore('map', server)], { write: 'around' });
    const report = await made.partition.put('k', 'v', { sizeBytes: 1, costMs: 1, tags: ['t'] });
    assert.deepEqual(report, { memory: false, tiers: { tier0: 'written' } });
    assert.equal(await fetch(made, 'other'), 'hit remote v');
  });

  it('loads anew for who asks after an invalidation, though an older load is under way', async () => {
    const made = make([new MapStore()]);
    const gate = Promise.withResolvers<void>();
    const older = fetchBehind(made, gate.promise);
    await settle();
    made.partition.invalidateTag('t');
    await settle();
    assert.equal(await fetch(made, 'new'), 'miss - new');
    gate.resolve();
    (await older).lease.release();
    assert.equal(await fetch(made, 'newer'), 'hit memory new');
  });

  it('leaves no older value behind where a newer one does not go', async () => {
    const [near, far] = [new MapServer(), new MapServer()];
    const made = make([new MapStore('near', near), new MapStore('far', far)], { write: 'around' });
    const facts = { sizeBytes: 1, costMs: 1, tags: ['t'] };
    await made.partition.put('k', 'v1', facts);
    assert.equal(await fetch(made, 'x'), 'hit remote v1');
    await Promise.all(['v2', 'v3', 'v4'].map((value) => made.partition.put('k', value, facts)));
    assert.equal(await fetch(made, 'x'), 'hit remote v4', 'memory has let go, and the last one put is the last');
    await made.partition.put('k', 'no form!', facts);
    assert.deepEqual([near.records.size, far.records.size], [0, 0]);
  });

  it('does not believe a record that lacks a tag it is asked by', async () => {
    const made = make([new MapStore()], { write: 'around' });
    await made.partition.put('k', 'v', { sizeBytes: 1, costMs: 1 });
    assert.equal(await fetch(made, 'new'), 'miss - new');
  });

  it('takes no cost that cannot be', async () => {
    const made = make([new MapStore()]);
    await assert.rejects(made.partition.put('k', 'v', { sizeBytes: 1, costMs: Number.POSITIVE_INFINITY }));
  });
});
