import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { MapServer, MapStore } from '../../test/support/map-store.ts';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { FakeClock } from '../base/clock.ts';
import { createRandom } from '../base/random.ts';
import type { EpochAuthority, EpochListener } from '../stores/store.ts';
import { Epochs } from './epochs.ts';

const settle = (): Promise<void> => new Promise(setImmediate);

/** An authority that tells nobody of changes. */
const mute = (epochs: EpochAuthority): EpochAuthority => ({
  read: (scopes) => epochs.read(scopes),
  bump: (scopes) => epochs.bump(scopes),
});

/** An authority whose line to its listeners a test can cut. */
const withLine = (): {
  readonly authority: EpochAuthority;
  line: EpochListener | undefined;
  readonly server: MapServer;
} => {
  const server = new MapServer();
  const { epochs } = new MapStore('map', server);
  const made = {
    server,
    line: undefined as EpochListener | undefined,
    authority: {
      ...mute(epochs),
      subscribe: (listener: EpochListener) => {
        made.line = listener;
        return async () => undefined;
      },
    },
  };
  return made;
};

const record = (tag: string, epoch: number): readonly { readonly tag: string; readonly epoch: number }[] => [
  { tag, epoch },
];

describe('epochs', () => {
  it('without an authority are this process’s own, from a number that none before had', async () => {
    const epochs = new Epochs({ authority: undefined, clock: new FakeClock(), base: 5000 });
    assert.deepEqual(epochs.present(['a', 'b']), [5000, 5000]);
    const heard: string[] = [];
    epochs.onInvalidated((tag) => void heard.push(tag));
    await epochs.bump(['a']);
    assert.deepEqual(epochs.present(['a', 'b']), [5001, 5000]);
    assert.deepEqual(heard, ['a']);
    assert.equal(epochs.areStill(['a'], [5000]), false);
    assert.equal(await epochs.check(record('a', 5000)), 'stale');
    assert.equal(await epochs.check(record('a', 5001)), 'current');
  });

  it('hear of others’ invalidations at once, and let go of what lies here', async () => {
    const made = withLine();
    const epochs = new Epochs({ authority: made.authority, clock: new FakeClock(), base: 1 });
    made.line?.inStep(true);
    const [begun] = (await epochs.ready(['a'])) ?? [];
    const heard: string[] = [];
    epochs.onInvalidated((tag) => void heard.push(tag));
    made.line?.bumped('a', (begun ?? 0) + 1);
    assert.deepEqual(heard, ['a']);
    assert.equal(epochs.areStill(['a'], [begun ?? 0]), false, 'a late fill is not kept');
    assert.equal(await epochs.check(record('a', begun ?? 0)), 'stale', 'and a late record not believed');
  });

  it('are believed for maxStaleMs while the line is cut, then not until it is in step again', async () => {
    const made = withLine();
    const clock = new FakeClock();
    const epochs = new Epochs({ authority: made.authority, clock, base: 1, maxStaleMs: 5000 });
    made.line?.inStep(true);
    await epochs.ready(['a']);
    clock.advance(60_000);
    assert.ok(epochs.isTrusted && epochs.present(['a']) !== undefined, 'for as long as it is told');
    made.line?.lost();
    clock.advance(4999);
    assert.ok(epochs.isTrusted && epochs.present(['a']) !== undefined);
    clock.advance(2);
    assert.equal(epochs.isTrusted, false);
    assert.equal(epochs.present(['a']), undefined);
    made.line?.inStep(true);
    assert.ok(epochs.isTrusted && epochs.present(['a']) !== undefined);
  });

  it('are read again where something may have been missed, and what changed leaves', async () => {
    const made = withLine();
    const clock = new FakeClock();
    const epochs = new Epochs({ authority: made.authority, clock, base: 1, maxStaleMs: 5000 });
    made.line?.inStep(true);
    await epochs.ready(['a', 'b']);
    const heard: string[] = [];
    epochs.onInvalidated((tag) => void heard.push(tag));
    made.line?.lost();
    await made.authority.bump(['a']);
    clock.advance(6000);
    made.line?.inStep(false);
    assert.equal(epochs.isTrusted, false, 'not before they are read');
    await settle();
    assert.ok(epochs.isTrusted);
    assert.deepEqual(heard, ['a']);
    assert.equal(epochs.stats().gaps, 1);
  });

  it('are asked for again and again where nobody tells of changes', async () => {
    const server = new MapServer();
    const { epochs: authority } = new MapStore('map', server);
    const clock = new FakeClock();
    const epochs = new Epochs({ authority: mute(authority), clock, base: 1, maxStaleMs: 1000 });
    await epochs.ready(['a']);
    const heard: string[] = [];
    epochs.onInvalidated((tag) => void heard.push(tag));
    await authority.bump(['a']);
    for (let poll = 0; poll < 3; poll++) {
      clock.advance(501);
      await settle();
    }
    assert.deepEqual(heard, ['a']);
    assert.ok(epochs.isTrusted);
    await epochs.close();
  });

  it('hold an invalidation here even if the authority cannot be reached, and tell it later', async () => {
    const faulty = new FaultyStore(new MapStore(), createRandom(1));
    const clock = new FakeClock();
    const epochs = new Epochs({ authority: faulty.epochs, clock, base: 1, maxStaleMs: 1e9 });
    const [begun] = (await epochs.ready(['a'])) ?? [];
    faulty.fault = 'killed';
    const bumping = epochs.bump(['a']);
    await settle();
    assert.equal(epochs.present(['a']), undefined);
    assert.equal(await epochs.check(record('a', begun ?? 0)), 'unknown');
    assert.equal(epochs.areStill(['a'], [begun ?? 0]), false);
    faulty.fault = undefined;
    clock.advance(251);
    await bumping;
    assert.equal(await epochs.check(record('a', begun ?? 0)), 'stale');
    assert.equal(epochs.stats().pending, 0);
  });

  it('ask again where a record is newer than what is known', async () => {
    const server = new MapServer();
    const { epochs: authority } = new MapStore('map', server);
    const epochs = new Epochs({ authority: mute(authority), clock: new FakeClock(), base: 1 });
    await epochs.ready(['a']);
    const [raised] = await authority.bump(['a']);
    assert.equal(await epochs.check(record('a', raised ?? 0)), 'current');
  });

  it('forget the tags that came first beyond a bound, with what lies under them', async () => {
    const { epochs: authority } = new MapStore();
    const epochs = new Epochs({ authority, clock: new FakeClock(), base: 1, maxTags: 3 });
    const heard: string[] = [];
    await epochs.ready(['a', 'b', 'c']);
    epochs.onInvalidated((tag) => void heard.push(tag));
    await epochs.ready(['d']);
    assert.ok(heard.includes('a'));
    assert.equal(epochs.stats().tags, 3);
  });
});

describe('epochs, where what may be missed overlaps', () => {
  it('are not believed when something else may have been missed while they were read again', async () => {
    const made = withLine();
    const gates: PromiseWithResolvers<void>[] = [];
    const slow: EpochAuthority = {
      ...made.authority,
      read: async (scopes) => {
        const epochs = await made.authority.read(scopes);
        const gate = Promise.withResolvers<void>();
        gates.push(gate);
        await gate.promise;
        return epochs;
      },
    };
    const clock = new FakeClock();
    const epochs = new Epochs({ authority: slow, clock, base: 1, maxStaleMs: 1000 });
    made.line?.inStep(true);
    const reading = epochs.ready(['a']);
    await settle();
    gates.pop()?.resolve();
    await reading;
    made.line?.lost();
    clock.advance(2000);
    made.line?.inStep(false);
    await settle();
    // While the first numbers are on their way, another gap.
    await made.authority.bump(['a']);
    made.line?.lost();
    made.line?.inStep(false);
    gates.shift()?.resolve();
    await settle();
    assert.equal(epochs.isTrusted, false);
    gates.shift()?.resolve();
    await settle();
    assert.ok(epochs.isTrusted);
    assert.equal(await epochs.check(record('a', 1000)), 'stale');
  });

  it('raise twice for two invalidations of a tag, though the first comes through in between', async () => {
    const faulty = new FaultyStore(new MapStore(), createRandom(1));
    const clock = new FakeClock();
    const epochs = new Epochs({ authority: faulty.epochs, clock, base: 1, maxStaleMs: 1e9 });
    const first = epochs.bump(['a']);
    faulty.fault = 'killed';
    const second = epochs.bump(['a']);
    await first;
    assert.equal(epochs.stats().pending, 1);
    faulty.fault = undefined;
    await settle();
    clock.advance(251);
    await second;
    assert.deepEqual(await epochs.ready(['a']), [1002]);
  });
});
