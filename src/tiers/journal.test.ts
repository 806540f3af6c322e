import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { FakeClock } from '../base/clock.ts';
import { createRandom } from '../base/random.ts';
import {
  journalOptions,
  JournalWorld,
  openOrCrash,
  recordOf,
  SimulatedOwners,
  versionOf,
  withVersion,
} from '../../test/support/journal-world.ts';
import { rejects } from '../../test/support/rejects.ts';
import { SimulatedFiles, type CrashKind, type FileOperation } from '../../test/support/simulated-files.ts';
import { turns } from '../../test/support/slow-target.ts';
import { TempFolder } from '../../test/support/temp.ts';
import { Journal } from './journal.ts';
import { frameOf, readFrames, type PutEntry } from './journal-frames.ts';

const FOREVER = { token: 0, expiresAtMs: Number.POSITIVE_INFINITY };
interface Crash {
  readonly seed: number;
  readonly kind: CrashKind;
  readonly durability: 'interval' | 'every';
  /** In how many operations the machine goes down, each time that it is started. */
  readonly crashes: readonly number[];
}

/** Works until the machine goes down, starts again on what is left, and so on; then looks at what is there. */
async function survive({ seed, kind, durability, crashes }: Crash): Promise<JournalWorld> {
  const random = createRandom(seed);
  const world = new JournalWorld(random);
  const owners = new SimulatedOwners();
  let files = new SimulatedFiles(random);
  const promised = durability === 'every' || kind === 'kill';
  for (const crashAt of crashes) {
    const crash = Promise.withResolvers<void>();
    files.crashAt = crashAt;
    files.onCrash = crash.resolve;
    let isDown = false;
    void crash.promise.then(() => (isDown = true));
    const clock = new FakeClock();
    const journal = await openOrCrash(journalOptions(files, { owners, durability, clock }), crash.promise);
    if (journal !== undefined) await Promise.race([world.check(journal, promised), crash.promise]);
    while (journal !== undefined && !isDown) {
      const acts = Array.from({ length: 1 + random.below(5) }, () => world.act(journal));
      if (random.below(8) === 0) clock.advance(1000);
      const isCrowd = random.below(2) === 0;
      if (isCrowd) await Promise.race([Promise.all(acts), crash.promise]);
      else await turns(random.below(30));
    }
    files = files.image(kind, createRandom(seed + crashAt));
    owners.killAll();
  }
  await world.check(await Journal.open(journalOptions(files, { owners })), promised);
  return world;
}

describe('the journal after a crash', () => {
  const crash = (kind: CrashKind, durability: 'interval' | 'every'): fc.Arbitrary<Crash> =>
    fc.record({
      seed: fc.integer({ min: 1, max: 2 ** 30 }),
      kind: fc.constant(kind),
      durability: fc.constant(durability),
      crashes: fc.array(fc.integer({ min: 1, max: 150 }), { minLength: 1, maxLength: 4 }),
    });

  for (const kind of ['kill', 'dropped', 'torn'] as const) {
    it(`has all that was acknowledged under "every", and nothing wrong: ${kind}`, async () => {
      await fc.assert(
        fc.asyncProperty(crash(kind, 'every'), async (each) => void (await survive(each))),
        { numRuns: 100, seed: 11 },
      );
    });
  }

  it('has all that was acknowledged under "interval" if only the process is killed', async () => {
    await fc.assert(
      fc.asyncProperty(crash('kill', 'interval'), async (each) => void (await survive(each))),
      { numRuns: 60, seed: 12 },
    );
  });

  for (const kind of ['dropped', 'torn'] as const) {
    it(`has nothing wrong under "interval", whatever the machine loses: ${kind}`, async () => {
      await fc.assert(
        fc.asyncProperty(crash(kind, 'interval'), async (each) => void (await survive(each))),
        { numRuns: 60, seed: 13 },
      );
    });
  }

  it('loses no more under "interval" than what came after the last sync', async () => {
    const clock = new FakeClock();
    const files = new SimulatedFiles(createRandom(3));
    const owners = new SimulatedOwners();
    const journal = await Journal.open(journalOptions(files, { owners, durability: 'interval', clock }));
    const world = new JournalWorld(createRandom(4));
    await world.put(journal, 'k1', 50);
    clock.advance(1000);
    await turns();
    await world.put(journal, 'k2', 50);
    owners.killAll();
    const after = await Journal.open(journalOptions(files.image('dropped', createRandom(5)), { owners }));
    assert.deepEqual(
      after.claim('tier').map(({ name }) => name),
      ['k1'],
    );
  });
});

describe('an acknowledgement under "every"', () => {
  it('comes after the sync of its bytes and of the names on their way', async () => {
    const random = createRandom(21);
    const files = new SimulatedFiles(random);
    const journal = await Journal.open(journalOptions(files, { owners: new SimulatedOwners() }));
    let checked = 0;
    const puts = Array.from({ length: 120 }, async (_, version) => {
      await turns(random.below(400));
      const record = recordOf('k1', version, random.below(300));
      await journal.put('tier', `n${version}`, [record], FOREVER).noted;
      // What a disk has that keeps nothing but what it was told to.
      const onDisk = [...files.image('dropped', random).paths()].flatMap(([path, bytes]) => {
        const id = /-(?<id>[0-9a-f]{16})[.]journal$/.exec(path)?.groups?.['id'] ?? '';
        return readFrames(bytes, Buffer.from(id, 'hex')).frames;
      });
      const found = onDisk.find(({ entry }) => entry.kind === 'put' && entry.name === `n${version}`);
      assert.deepEqual(Buffer.from((found?.entry as PutEntry).record[0] as Uint8Array), Buffer.from(record));
      checked++;
    });
    await Promise.all(puts);
    assert.equal(checked, 120);
    assert.ok(journal.stats().files > 5);
  });

  it('shares a sync with those who come at the same time', async () => {
    const files = new SimulatedFiles(createRandom(22));
    const journal = await Journal.open(journalOptions(files, { owners: new SimulatedOwners(), maxFileBytes: 2 ** 20 }));
    const writes = Array.from({ length: 100 }, (_, at) => journal.put('tier', `n${at}`, [new Uint8Array(10)], FOREVER));
    await Promise.all(writes.map(({ noted }) => noted));
    assert.ok(journal.stats().syncs <= 2, `${journal.stats().syncs} syncs`);
  });
});

describe('a journal that is damaged', () => {
  const fileId = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]);
  const entryOf = (version: number): PutEntry => ({
    kind: 'put',
    target: 'tier',
    name: `k${version}`,
    sequence: version,
    writer: 7,
    token: version,
    expiresAtMs: 5,
    record: [recordOf(`k${version}`, version, 100 + version)],
  });
  const whole = Buffer.concat([1, 2, 3, 4, 5].flatMap((version) => frameOf(entryOf(version), fileId)));
  const check = (bytes: Uint8Array): number => {
    const { frames } = readFrames(bytes, fileId);
    for (const { entry } of frames) {
      assert.ok(entry.kind === 'put');
      assert.deepEqual({ ...entry, record: undefined }, { ...entryOf(entry.sequence), record: undefined });
      assert.equal(versionOf(entry.name, entry.record[0] as Uint8Array), entry.sequence);
    }
    return frames.length;
  };

  it('is read as far as it goes, wherever it is cut off', () => {
    const { frames } = readFrames(whole, fileId);
    const ends = frames.map(({ at, lengthBytes }) => at + lengthBytes);
    for (let end = 0; end <= whole.length; end++) {
      const read = readFrames(whole.subarray(0, end), fileId);
      assert.equal(check(whole.subarray(0, end)), ends.filter((each) => each <= end).length);
      assert.equal(read.damagedBytes, end - (ends.findLast((each) => each <= end) ?? 0));
    }
  });

  it('gives all entries but the one that a flipped bit is in', () => {
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const flipped = Uint8Array.from(whole);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      assert.equal(check(flipped), 4);
      assert.ok(readFrames(flipped, fileId).damagedBytes > 100);
    }
  });

  it('gives nothing wrong from garbage', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(whole.length), (garbage, at) => {
        const bytes = Buffer.concat([whole.subarray(0, at), garbage, whole.subarray(at)]);
        assert.ok(check(bytes) >= 4);
      }),
      { numRuns: 300, seed: 14 },
    );
  });

  it('takes nothing that lies in a record for an entry', () => {
    const other = Uint8Array.from([9, 9, 9, 9, 9, 9, 9, 9]);
    const outer = Buffer.concat(frameOf({ ...entryOf(1), record: [whole] }, other));
    outer[30] = (outer[30] as number) ^ 1;
    assert.deepEqual(readFrames(outer, other).frames, []);
  });

  it('passes over entries of a later version', () => {
    const later = Buffer.concat(frameOf(entryOf(1), fileId));
    const { frames, damagedBytes } = readFrames(Buffer.concat([withVersion(later, 2), whole]), fileId);
    assert.equal(frames.length, 5);
    assert.equal(damagedBytes, later.length);
  });

  it('counts what it could not read, and goes on with the rest', async () => {
    const files = new SimulatedFiles(createRandom(31));
    const owners = new SimulatedOwners();
    const journal = await Journal.open(journalOptions(files, { owners }));
    for (let at = 0; at < 4; at++) await journal.put('tier', `n${at}`, [new Uint8Array(100)], FOREVER).noted;
    owners.killAll();
    const [, bytes] = [...files.paths()].find(([, each]) => each.length > 0) ?? [];
    (bytes as Uint8Array)[200] = ((bytes as Uint8Array)[200] as number) ^ 0x10;
    const after = await Journal.open(journalOptions(files, { owners }));
    assert.equal(after.stats().replayed, 3);
    assert.ok(after.stats().damagedBytes > 100);
  });
});

describe('the files of a journal', () => {
  it('go when nothing in them is wanted, and the folder with them', async () => {
    const files = new SimulatedFiles(createRandom(41));
    const journal = await Journal.open(journalOptions(files, { owners: new SimulatedOwners() }));
    for (let at = 0; at < 60; at++) {
      const { order, noted } = journal.put('tier', `n${at}`, [new Uint8Array(200)], FOREVER);
      await noted;
      journal.done('tier', `n${at}`, order);
    }
    await journal.sync();
    assert.ok(journal.stats().files <= 2, `${journal.stats().files} files`);
    assert.deepEqual([journal.stats().entries, journal.stats().liveBytes], [0, 0]);
    await journal.close();
    assert.deepEqual(await files.list('/journal'), []);
  });

  it('stay bounded although one old write is never done', async () => {
    const files = new SimulatedFiles(createRandom(42));
    const owners = new SimulatedOwners();
    const journal = await Journal.open(journalOptions(files, { owners }));
    const old = recordOf('k1', 1, 100);
    await journal.put('tier', 'old', [old], FOREVER).noted;
    for (let at = 0; at < 300; at++) {
      const { order, noted } = journal.put('tier', `n${at}`, [new Uint8Array(200)], FOREVER);
      await noted;
      journal.done('tier', `n${at}`, order);
      assert.ok(journal.stats().fileBytes <= 6000 + 2 * 2300, `${journal.stats().fileBytes} bytes`);
    }
    assert.ok(journal.stats().copied > 3);
    await journal.close();
    const after = await Journal.open(journalOptions(files, { owners }));
    const [left, ...more] = after.claim('tier');
    assert.deepEqual([left?.name, more.length], ['old', 0]);
    assert.deepEqual(Buffer.from((await after.load('tier', left as never)) as Uint8Array), Buffer.from(old));
  });

  it('of processes that live are left alone', async () => {
    const files = new SimulatedFiles(createRandom(43));
    const owners = new SimulatedOwners();
    const first = await Journal.open(journalOptions(files, { owners }));
    await first.put('tier', 'a', [Uint8Array.of(1)], FOREVER).noted;
    const second = await Journal.open(journalOptions(files, { owners }));
    assert.deepEqual(second.claim('tier'), []);
    await first.put('tier', 'b', [Uint8Array.of(2)], FOREVER).noted;
    await first.close();
    const third = await Journal.open(journalOptions(files, { owners }));
    assert.deepEqual(
      third.claim('tier').map(({ name }) => name),
      ['a', 'b'],
    );
    await second.close();
  });

  it('are taken over by one process only', async () => {
    const files = new SimulatedFiles(createRandom(44));
    const owners = new SimulatedOwners();
    const dead = await Journal.open(journalOptions(files, { owners }));
    await dead.put('tier', 'a', [Uint8Array.of(1)], FOREVER).noted;
    owners.killAll();
    const heirs = await Promise.all([1, 2, 3].map(() => Journal.open(journalOptions(files, { owners }))));
    assert.equal(heirs.flatMap((heir) => heir.claim('tier')).length, 1);
  });

  it('keep what is for a target that is not there any more, and nothing that has expired', async () => {
    const files = new SimulatedFiles(createRandom(45));
    const owners = new SimulatedOwners();
    let journal = await Journal.open(journalOptions(files, { owners }));
    await journal.put('gone', 'a', [Uint8Array.of(1)], FOREVER).noted;
    await journal.put('tier', 'b', [Uint8Array.of(1)], { token: 0, expiresAtMs: 1_000_000 }).noted;
    for (let start = 0; start < 3; start++) {
      await journal.close();
      journal = await Journal.open(journalOptions(files, { owners }));
      assert.deepEqual(journal.claim('tier'), []);
    }
    assert.equal(journal.claim('gone').length, 1);
    assert.deepEqual(journal.claim('gone'), []);
  });

  it('lie in a real folder, too', async () => {
    using folder = new TempFolder();
    const owners = new SimulatedOwners();
    const options = {
      folder: folder.at('journal'),
      durability: 'every',
      clock: new FakeClock(),
      wallClock: Date.now,
      owners,
    } as const;
    const journal = await Journal.open({ ...options, maxFileBytes: 5000 });
    const world = new JournalWorld(createRandom(46));
    for (let at = 0; at < 200; at++) await world.act(journal);
    owners.killAll();
    const after = await Journal.open(options);
    await world.check(after);
    await after.close();
    await journal.close();
  });
});

describe('a disk that fails', () => {
  const failing: readonly (readonly FileOperation[])[] = [
    ['append'],
    ['sync'],
    ['append', 'truncate'],
    ['create', 'append'],
    ['syncFolder', 'append'],
  ];
  for (const operations of failing) {
    it(`refuses writes, and takes them again by itself: ${operations.join(', ')}`, async () => {
      const clock = new FakeClock();
      const files = new SimulatedFiles(createRandom(51));
      const owners = new SimulatedOwners();
      const journal = await Journal.open(journalOptions(files, { owners, clock }));
      await journal.put('tier', 'a', [Uint8Array.of(1)], FOREVER).noted;
      const b = journal.put('tier', 'b', [Uint8Array.of(1)], FOREVER);
      await b.noted;
      files.fault = (operation) => (operations.includes(operation) ? new Error('no space left') : undefined);
      await rejects(journal.put('tier', 'a', [Uint8Array.of(2)], FOREVER).noted, 'ERR_INFERKV_STORE_FAILED');
      journal.done('tier', 'b', b.order);
      await rejects(journal.put('tier', 'c', [Uint8Array.of(2)], FOREVER).noted, 'ERR_INFERKV_STORE_FAILED');
      clock.advance(1000);
      await rejects(journal.put('tier', 'c', [Uint8Array.of(2)], FOREVER).noted, 'ERR_INFERKV_STORE_FAILED');
      files.fault = () => undefined;
      clock.advance(1000);
      await journal.put('tier', 'd', [Uint8Array.of(3)], FOREVER).noted;
      assert.ok(journal.stats().failures >= 2);
      for (const kind of ['kill', 'dropped'] as const) {
        owners.killAll();
        const after = await Journal.open(journalOptions(files.image(kind, createRandom(52)), { owners }));
        const left = after.claim('tier');
        // What was refused does not come back in place of what was promised before.
        assert.deepEqual(left.map(({ name }) => name).toSorted(), ['a', 'd']);
        const a = left.find(({ name }) => name === 'a');
        assert.deepEqual(Buffer.from((await after.load('tier', a as never)) as Uint8Array), Buffer.of(1));
      }
    });
  }

  it('loses nothing acknowledged while it fails now and then and the machine goes down', async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = createRandom(seed);
      const clock = new FakeClock();
      const owners = new SimulatedOwners();
      const files = new SimulatedFiles(random);
      const world = new JournalWorld(random);
      const journal = await Journal.open(journalOptions(files, { owners, clock }));
      files.fault = () => (random.below(25) === 0 ? new Error('the disk fails') : undefined);
      for (let round = 0; round < 40; round++) {
        const acts = Array.from({ length: 4 }, () => world.act(journal));
        await (random.below(2) === 0 ? Promise.all(acts) : turns(20));
        if (random.below(3) === 0) clock.advance(1000);
      }
      await turns(500);
      owners.killAll();
      const after = files.image(seed % 2 === 0 ? 'torn' : 'dropped', random);
      await world.check(await Journal.open(journalOptions(after, { owners })));
    }
  });

  it('says so when it is opened', async () => {
    const files = new SimulatedFiles(createRandom(53));
    files.fault = (operation) => (operation === 'create' ? new Error('read-only file system') : undefined);
    await rejects(Journal.open(journalOptions(files, { owners: new SimulatedOwners() })), 'ERR_INFERKV_STORE_FAILED');
  });
});
