import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { FakeClock } from '../../src/base/clock.ts';
import { isInferkvError } from '../../src/base/errors.ts';
import type { EntryFacts, Partition } from '../../src/cache/partition.ts';
import { rejects } from '../support/rejects.ts';
import { box, controlledLoad, loaded, settle, type Box, type PartitionSubject } from './partition.ts';

/** What partitions owe to those who hand them nonsense: a clear error, and a partition that is as it was. */
export function describeBadInput(name: string, subject: PartitionSubject): void {
  const { overheadBytes } = subject;
  const facts = { sizeBytes: 10, costMs: 5 };
  const withRoomFor = (entries: number): Partition<Box> =>
    subject.make({ budgetBytes: entries * (10 + overheadBytes), clock: new FakeClock() });

  describe(`partition ${name}: bad input`, () => {
    it('is not made with a budget that is none', () => {
      for (const budgetBytes of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 10.5, '1GB' as unknown as number]) {
        assert.throws(
          () => subject.make({ budgetBytes, clock: new FakeClock() }),
          (error) => isInferkvError(error, 'ERR_INFERKV_CONFIG_INVALID') && /budgetBytes/.test(error.message),
          String(budgetBytes),
        );
      }
      for (const limits of [
        { ttlMs: -1 },
        { ttlMs: Number.NaN },
        { maxEntryBytes: 0 },
        { maxEntryBytes: Number.NaN },
        ...[0, -1, Number.NaN].flatMap((bytes) => [{ maxTenantBytes: bytes }, { quotas: { alice: bytes } }]),
      ]) {
        assert.throws(
          () => subject.make({ budgetBytes: 1000, clock: new FakeClock(), ...limits }),
          (error) => isInferkvError(error, 'ERR_INFERKV_CONFIG_INVALID'),
          JSON.stringify(limits),
        );
      }
    });

    it('refuses facts that cannot be, and changes nothing', async () => {
      const partition = withRoomFor(3);
      partition.set('a', box('1'), facts);
      const before = partition.stats();
      const lies: readonly Partial<Record<keyof EntryFacts, unknown>>[] = [
        ...[-1, Number.NaN, Number.POSITIVE_INFINITY, 1.5, 2 ** 60, '10', undefined].map((sizeBytes) => ({
          sizeBytes,
        })),
        ...[-1, Number.NaN, Number.POSITIVE_INFINITY, 'much', undefined].map((costMs) => ({ costMs })),
        ...[-1, Number.NaN, 'soon'].map((ttlMs) => ({ ttlMs })),
      ];
      for (const lie of lies) {
        assert.throws(
          () => partition.set('a', box('lie'), { ...facts, ...lie } as EntryFacts),
          (error) => isInferkvError(error, 'ERR_INFERKV_FACTS_INVALID') && error.key === 'a',
          JSON.stringify(lie),
        );
      }
      assert.deepEqual(partition.stats(), before);
      assert.equal(partition.get('a')?.text, '1');
      await partition.close();
      assert.equal(partition.stats().usedBytes, 0);
    });

    it('gives what a load lied about to nobody, and its bytes back', async () => {
      const partition = withRoomFor(3);
      for (const sizeBytes of [-1, Number.NaN, 0.5]) {
        for (const options of [{}, { reserveBytes: 10 }]) {
          const lying = partition.fetch('a', async () => ({ value: box('lie'), sizeBytes }), options);
          await rejects(lying, 'ERR_INFERKV_FACTS_INVALID');
        }
      }
      await rejects(
        partition.fetch('a', async () => loaded('1'), { reserveBytes: -5 }),
        'ERR_INFERKV_FACTS_INVALID',
      );
      assert.deepEqual([partition.stats().usedBytes, partition.stats().entries], [0, 0]);
      using lease = (await partition.fetch('a', async () => loaded('true'))).lease;
      assert.equal(lease.value.text, 'true');
    });

    it('tells a load that it waits for itself, straight or by way of another', async () => {
      const partition = withRoomFor(5);
      const straight = partition.fetch('a', async () => {
        const { lease } = await partition.fetch('a', async () => loaded('inner'));
        return { ...loaded('outer'), value: lease.value };
      });
      await rejects(straight, 'ERR_INFERKV_REENTRANT');
      const around = partition.fetch('a', async () => {
        using lease = (
          await partition.fetch('b', async () => {
            using inner = (await partition.fetch('a', async () => loaded('a'))).lease;
            return loaded(inner.value.text);
          })
        ).lease;
        return loaded(lease.value.text);
      });
      await rejects(around, 'ERR_INFERKV_REENTRANT');
      assert.deepEqual([partition.stats().usedBytes, partition.stats().activeLeases], [0, 0]);
    });

    it('lets a load use the partition, and keeps what it loads last', async () => {
      const partition = withRoomFor(5);
      const { lease } = await partition.fetch('a', async () => {
        partition.set('a', box('meanwhile'), facts);
        assert.equal(partition.get('a')?.text, 'meanwhile');
        using other = (await partition.fetch('b', async () => loaded('b'))).lease;
        partition.delete('nobody');
        return loaded(`a of ${other.value.text}`);
      });
      lease.release();
      assert.equal(partition.get('a')?.text, 'a of b');
      assert.deepEqual([partition.stats().entries, partition.stats().activeLeases], [2, 0]);
    });

    it('is closed while a load is under way: what it brings is served and not kept', async () => {
      const partition = withRoomFor(5);
      const { load, end } = controlledLoad();
      const fetching = partition.fetch('a', load);
      const closing = partition.close();
      end.resolve(loaded('late'));
      const { lease } = await fetching;
      await closing;
      assert.equal(lease.value.text, 'late');
      lease.release();
      await settle();
      assert.deepEqual([partition.stats().entries, partition.stats().usedBytes], [0, 0]);
    });
  });

  describe(`partition ${name}: explain`, () => {
    it('tells of what lies here without counting as a use', () => {
      const clock = new FakeClock();
      const partition = subject.make({ budgetBytes: 5 * (1000 + overheadBytes), clock, ttlMs: 500 });
      partition.set('a', box('1'), { ...facts, tags: ['x'], tenant: 'alice' });
      partition.get('a');
      partition.get('a');
      clock.advance(100);
      const found = partition.explain('a');
      assert.ok(found.state === 'present');
      assert.deepEqual(
        [found.tier, found.costMs, found.uses, found.savedMs, found.ageMs, found.expiresInMs, found.tags, found.tenant],
        ['memory', 5, 2, 10, 100, 400, ['x'], 'alice'],
      );
      assert.ok(found.chargedBytes > found.sizeBytes && found.chargedBytes === partition.stats().usedBytes);
      assert.equal(found.isLeased, false);
      using _lease = partition.lease('a');
      assert.deepEqual(partition.explain('a'), { ...found, uses: 3, savedMs: 15, isLeased: true });
      assert.equal(partition.stats().hits, 3);
    });

    it('tells why something is not here', async () => {
      const clock = new FakeClock();
      const partition = subject.make({
        budgetBytes: 2 * (10 + overheadBytes),
        clock,
        ttlMs: 1000,
        maxEntryBytes: 5000,
      });
      assert.deepEqual(partition.explain('a'), { state: 'unknown', key: 'a', remembered: 0 });
      partition.set('a', box('1'), { ...facts });
      partition.get('a');
      clock.advance(10);
      partition.set('b', box('2'), facts);
      partition.set('c', box('3'), facts);
      partition.set('d', box('4'), facts);
      clock.advance(7);
      const evicted = [partition.explain('a'), partition.explain('b')].find(({ state }) => state === 'departed');
      assert.ok(evicted?.state === 'departed');
      assert.deepEqual([evicted.reason, evicted.agoMs, evicted.costMs], ['evicted', 7, 5]);
      assert.ok(evicted.policy !== undefined && evicted.neededBytes >= 10);
      partition.delete('d');
      const deleted = partition.explain('d');
      assert.ok(deleted.state === 'departed');
      assert.deepEqual([deleted.reason, deleted.policy, deleted.livedMs], ['deleted', undefined, 7]);
      partition.set('t', box('5'), { ...facts, sizeBytes: 0 });
      partition.set('big', box('6', 6000), { ...facts, sizeBytes: 6000 });
      const refused = partition.explain('big');
      assert.ok(refused.state === 'refused');
      assert.equal(refused.reason, 'too-large');
      assert.ok(refused.chargedBytes > refused.limitBytes);
      const { load, end } = controlledLoad();
      const fetching = partition.fetch('l', load);
      assert.deepEqual(partition.explain('l'), { state: 'loading', key: 'l' });
      end.resolve(loaded('7'));
      (await fetching).lease.release();
      assert.equal(partition.explain('l').state, 'present');
      clock.advance(1000);
      const expired = partition.explain('l');
      assert.ok(expired.state === 'departed' && expired.reason === 'expired');
    });

    it('names the tag by which something left', () => {
      const partition = subject.make({ budgetBytes: 5 * (1000 + overheadBytes), clock: new FakeClock() });
      partition.set('a', box('1'), { ...facts, tags: ['x', 'y'] });
      partition.invalidateTag('y');
      const found = partition.explain('a');
      assert.ok(found.state === 'departed');
      assert.deepEqual([found.reason, found.tag, found.policy], ['invalidated', 'y', undefined]);
      partition.set('a', box('2'), facts);
      assert.equal(partition.explain('a').state, 'present');
    });
  });
}
