import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { FakeClock } from '../base/clock.ts';
import { createRandom } from '../base/random.ts';
import { journalOptions, SimulatedOwners } from '../../test/support/journal-world.ts';
import { rejects } from '../../test/support/rejects.ts';
import { SimulatedFiles } from '../../test/support/simulated-files.ts';
import { SlowTarget, turns } from '../../test/support/slow-target.ts';
import { Journal } from './journal.ts';
import { WriteBack, type WriteBackOptions } from './write-back.ts';

interface Setting {
  readonly clock: FakeClock;
  readonly target: SlowTarget;
  readonly buffer: WriteBack;
}

function setting(options: Partial<WriteBackOptions> = {}, seed = 1): Setting {
  const clock = new FakeClock();
  const target = new SlowTarget(createRandom(seed));
  const buffer = new WriteBack({
    target,
    clock,
    wallClock: () => 1_000_000 + clock.now(),
    maxDirtyBytes: 1000,
    ...options,
  });
  return { clock, target, buffer };
}

const bytesOf = (length: number, value = 1): readonly Uint8Array[] => [new Uint8Array(length).fill(value)];

describe('writes held back', () => {
  it('are acknowledged at once, read from the buffer, and written when they are of age', async () => {
    const { clock, target, buffer } = setting();
    assert.equal(await buffer.add('a', [Uint8Array.of(1), Uint8Array.of(2)]), 'back');
    assert.deepEqual(buffer.read('a'), [Uint8Array.of(1), Uint8Array.of(2)]);
    clock.advance(4999);
    await turns();
    assert.equal(target.puts.length, 0);
    assert.equal(buffer.stats().oldestMs, 4999);
    clock.advance(1);
    await turns();
    assert.deepEqual(target.records.get('a'), Uint8Array.of(1, 2));
    assert.equal(buffer.read('a'), undefined);
    assert.deepEqual([buffer.stats().dirtyBytes, buffer.stats().dirtyEntries, buffer.stats().flushed], [0, 0, 1]);
  });

  it('of one name are written once, the last one', async () => {
    const { target, buffer } = setting();
    for (let value = 0; value < 10; value++) await buffer.add('a', bytesOf(10, value));
    await buffer.flush();
    assert.equal(target.puts.length, 1);
    assert.deepEqual(target.records.get('a'), new Uint8Array(10).fill(9));
    assert.equal(buffer.stats().coalesced, 9);
  });

  it('of one name do not become younger by being overwritten', async () => {
    const { clock, target, buffer } = setting();
    for (let round = 0; round < 6; round++) {
      await buffer.add('a', bytesOf(10, round));
      clock.advance(900);
    }
    await turns();
    assert.equal(target.puts.length, 1);
  });

  it('go as soon as half of the room is taken, so many at a time', async () => {
    const { target, buffer } = setting({ concurrency: 3 });
    const { promise, resolve } = Promise.withResolvers<void>();
    target.gate = promise;
    for (let at = 0; at < 9; at++) await buffer.add(`n${at}`, bytesOf(100));
    await turns();
    assert.equal(target.running, 3);
    resolve();
    await turns(1000);
    assert.ok(buffer.stats().dirtyBytes < 500);
    assert.equal(target.mostRunning, 3);
  });

  it('go first when memory has let go of them', async () => {
    const { target, buffer } = setting();
    await buffer.add('a', bytesOf(10));
    await buffer.add('b', bytesOf(10));
    buffer.evicted('b');
    buffer.evicted('unknown');
    await turns();
    assert.deepEqual(
      target.puts.map(({ name }) => name),
      ['b'],
    );
  });

  it('say how long they may be kept from now on, and under which token they were made', async () => {
    const { clock, target, buffer } = setting();
    await buffer.add('a', bytesOf(10), { ttlMs: 8000, token: 7 });
    await buffer.add('b', bytesOf(10), { ttlMs: 3000 });
    clock.advance(5000);
    await turns();
    assert.deepEqual(
      target.puts.map(({ name, options }) => [name, options?.ttlMs, options?.token]),
      [['a', 3000, 7]],
    );
    assert.equal(buffer.stats().expired, 1);
    assert.equal(buffer.stats().dirtyEntries, 0);
  });

  it('are tried again, less and less often, while the target fails', async () => {
    const { clock, target, buffer } = setting();
    target.isFailing = true;
    await buffer.add('a', bytesOf(10));
    for (let ms = 0; ms < 60_000; ms += 10) {
      clock.advance(10);
      await turns(30);
    }
    assert.ok(target.puts.length > 10 && target.puts.length < 25, `${target.puts.length} times`);
    // Others that come meanwhile do not make it more.
    const before = target.puts.length;
    for (let at = 0; at < 50; at++) {
      await buffer.add(`n${at}`, bytesOf(1));
      await turns(5);
    }
    assert.ok(target.puts.length <= before + 1);
    target.isFailing = false;
    clock.advance(5000);
    await turns();
    assert.ok(target.records.has('a'));
  });

  it('do not stand in the way of others if the target cannot take them', async () => {
    const { clock, target, buffer } = setting();
    target.refuses = (name) => name === 'bad';
    await buffer.add('bad', bytesOf(10));
    for (let at = 0; at < 20; at++) await buffer.add(`n${at}`, bytesOf(10));
    for (let ms = 0; ms < 20_000; ms += 50) {
      clock.advance(50);
      await turns(40);
    }
    assert.equal(target.records.size, 20);
    assert.equal(buffer.stats().dirtyEntries, 1);
  });

  it('that the target does not want are counted, and let go of', async () => {
    const { target, buffer } = setting();
    target.outcome = 'superseded';
    await buffer.add('a', bytesOf(10));
    await buffer.flush();
    assert.deepEqual([buffer.stats().refused, buffer.stats().flushed, buffer.stats().dirtyEntries], [1, 0, 0]);
  });
});

describe('a full buffer', () => {
  const filled = async (options: Partial<WriteBackOptions> = {}): Promise<Setting> => {
    const full = setting(options);
    full.target.isFailing = true;
    for (let at = 0; at < 10; at++) await full.buffer.add(`n${at}`, bytesOf(100));
    return full;
  };

  it('has writers wait, and takes them when there is room', async () => {
    const { clock, target, buffer } = await filled();
    const waiting = buffer.add('late', bytesOf(100));
    await turns();
    target.isFailing = false;
    clock.advance(99);
    await turns();
    assert.equal(await waiting, 'back');
    assert.ok(buffer.stats().dirtyBytes <= 1000);
  });

  it('sends them straight on when they have waited long enough', async () => {
    const { clock, target, buffer } = await filled();
    const waiting = buffer.add('late', bytesOf(100));
    await turns();
    target.refuses = (name) => name !== 'late';
    target.isFailing = false;
    clock.advance(100);
    assert.equal(await waiting, 'through');
    assert.ok(target.records.has('late'));
    assert.equal(buffer.stats().through, 1);
  });

  it('says so if that fails, too', async () => {
    const { clock, buffer } = await filled();
    const waiting = buffer.add('late', bytesOf(100));
    await turns();
    clock.advance(100);
    assert.equal(await waiting, 'dropped');
    assert.equal(buffer.stats().dropped, 1);
  });

  it('drops them if it is set so', async () => {
    const { clock, target, buffer } = await filled({ whenFull: 'drop' });
    target.isFailing = false;
    target.refuses = (name) => name !== 'late';
    const waiting = buffer.add('late', bytesOf(100));
    await turns();
    clock.advance(100);
    assert.equal(await waiting, 'dropped');
    assert.ok(!target.records.has('late'));
  });

  it('does not hold up who gives up', async () => {
    const { buffer } = await filled();
    const controller = new AbortController();
    const waiting = buffer.add('late', bytesOf(100), { signal: controller.signal });
    await turns();
    controller.abort();
    await rejects(waiting, 'ERR_INFERKV_ABORTED');
    assert.equal(buffer.read('late'), undefined);
  });

  it('sends straight on what is larger than all of it, after what came before of that name', async () => {
    const { target, buffer } = setting();
    await buffer.add('a', bytesOf(10, 1));
    assert.equal(await buffer.add('a', bytesOf(1001, 2)), 'through');
    await buffer.flush();
    assert.deepEqual(target.records.get('a'), new Uint8Array(1001).fill(2));
  });
});

describe('an invalidation', () => {
  it('keeps what is held, waits, or is under way from coming to the target after it', async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const { clock, target, buffer } = setting({}, seed);
      const random = createRandom(seed);
      const adds = Array.from({ length: 30 }, (_, at) => buffer.add(`n${at % 5}`, bytesOf(100, at)));
      await turns(random.below(60));
      clock.advance(random.below(150));
      await turns(random.below(60));
      await (seed % 2 === 0 ? buffer.discard((name) => name === 'n3') : buffer.discard('n3'));
      const before = target.puts.filter(({ name }) => name === 'n3').length;
      for (let ms = 0; ms < 10_000; ms += 100) {
        clock.advance(100);
        await turns(30);
      }
      await Promise.all(adds);
      assert.equal(target.puts.filter(({ name }) => name === 'n3').length, before, `seed ${seed}`);
      assert.equal(target.records.size, before === 0 ? 4 : 5);
    }
  });

  it('deletes before what is written after it', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const { target, buffer } = setting({}, seed);
      await buffer.add('a', bytesOf(10, 1));
      const flushing = buffer.flush();
      await turns(seed % 7);
      const removing = buffer.remove('a', () => target.delete('a'));
      await turns(seed % 5);
      await buffer.add('a', bytesOf(10, 2));
      await Promise.all([removing, flushing, buffer.flush()]);
      assert.deepEqual(target.records.get('a'), new Uint8Array(10).fill(2));
    }
  });
});

describe('the end', () => {
  it('writes what it can in time, and counts the rest as lost where there is no journal', async () => {
    const { clock, target, buffer } = setting();
    await buffer.add('a', bytesOf(10));
    await buffer.add('b', bytesOf(10));
    target.refuses = (name) => name === 'b';
    const closing = buffer.close({ deadlineMs: 500 });
    await rejects(buffer.add('c', bytesOf(10)), 'ERR_INFERKV_CLOSED');
    for (let ms = 0; ms < 600; ms += 50) {
      clock.advance(50);
      await turns();
    }
    await closing;
    assert.ok(target.records.has('a'));
    assert.equal(buffer.stats().lost, 1);
    const tries = target.puts.length;
    clock.advance(60_000);
    await turns();
    assert.equal(target.puts.length, tries);
  });

  it('leaves the rest in the journal, from which the next process writes it', async () => {
    const files = new SimulatedFiles(createRandom(61));
    const owners = new SimulatedOwners();
    const journal = await Journal.open(journalOptions(files, { owners }));
    const first = setting({ journal: Promise.resolve(journal) });
    first.target.isFailing = true;
    for (let at = 0; at < 9; at++) await first.buffer.add(`n${at}`, bytesOf(100, at));
    await first.buffer.add('n3', bytesOf(100, 33));
    await first.buffer.discard('n4');
    const closing = first.buffer.close({ deadlineMs: 0 });
    first.clock.advance(1);
    await closing;
    assert.equal(first.buffer.stats().lost, 0);
    await journal.close();

    // With less room than there was: the rest waits for its turn.
    const next = await Journal.open(journalOptions(files, { owners }));
    const second = setting({ journal: Promise.resolve(next), maxDirtyBytes: 350 });
    second.target.isFailing = true;
    await turns(500);
    assert.deepEqual([second.buffer.stats().replayed, second.buffer.stats().backlog], [8, 5]);
    assert.ok(second.buffer.stats().dirtyBytes <= 350);
    second.target.isFailing = false;
    await second.buffer.add('n8', bytesOf(1, 88));
    const flushing = second.buffer.flush();
    for (let ms = 0; ms < 2000; ms += 50) {
      second.clock.advance(50);
      await turns();
    }
    await flushing;
    const written = [...second.target.records].map(([name, bytes]) => `${name}:${bytes[0]}`);
    assert.deepEqual(written.toSorted(), ['n0:0', 'n1:1', 'n2:2', 'n3:33', 'n5:5', 'n6:6', 'n7:7', 'n8:88']);
    await second.buffer.close();
    await next.close();
    assert.deepEqual(await files.list('/journal'), []);
  });
});

describe('a journal that fails', () => {
  it('has writes made at once', async () => {
    const files = new SimulatedFiles(createRandom(71));
    const journal = await Journal.open(journalOptions(files, { owners: new SimulatedOwners() }));
    const { target, buffer } = setting({ journal: Promise.resolve(journal) });
    files.fault = () => new Error('no space left');
    assert.equal(await buffer.add('a', bytesOf(10)), 'through');
    assert.ok(target.records.has('a'));
  });

  it('has them refused if the target fails as well, and made when it works', async () => {
    const files = new SimulatedFiles(createRandom(72));
    const journal = await Journal.open(journalOptions(files, { owners: new SimulatedOwners() }));
    const { clock, target, buffer } = setting({ journal: Promise.resolve(journal) });
    files.fault = () => new Error('no space left');
    target.isFailing = true;
    await rejects(buffer.add('a', bytesOf(10)), 'ERR_INFERKV_STORE_FAILED');
    target.isFailing = false;
    clock.advance(100);
    await turns();
    assert.ok(target.records.has('a'));
  });

  it('that cannot be opened has all writes go straight on', async () => {
    const { target, buffer } = setting({ journal: Promise.reject(new Error('no folder')), whenFull: 'drop' });
    assert.equal(await buffer.add('a', bytesOf(10)), 'through');
    assert.ok(target.records.has('a'));
  });
});
