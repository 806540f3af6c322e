import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { MapStore } from '../../test/support/map-store.ts';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { rejects } from '../../test/support/rejects.ts';
import { FakeClock } from '../base/clock.ts';
import { createRandom } from '../base/random.ts';
import { GuardedStore, type GuardOptions } from './guarded-store.ts';

const make = (
  options: Partial<GuardOptions> = {},
): { readonly clock: FakeClock; readonly faulty: FaultyStore; readonly guarded: GuardedStore } => {
  const clock = new FakeClock();
  const faulty = new FaultyStore(new MapStore(), createRandom(1));
  const guarded = new GuardedStore(faulty, { clock, random: createRandom(2), deadlineMs: 100, ...options });
  return { clock, faulty, guarded };
};

/** Lets promises settle that have all they need. */
const settle = (): Promise<void> => new Promise(setImmediate);

describe('guarded store', () => {
  it('leaves a call behind at its deadline, whether the store obeys or not', async () => {
    const { clock, faulty, guarded } = make();
    faulty.fault = 'hung';
    const late = rejects(guarded.get('x'), 'ERR_INFERKV_DEADLINE');
    await settle();
    clock.advance(101);
    await late;
    assert.equal(guarded.stats().deadlines, 1);
    assert.equal(guarded.stats().running, 0, 'its place is free');
  });

  it('opens its breaker, refuses at once, and comes back by itself', async () => {
    const { clock, faulty, guarded } = make({ breaker: { failures: 3, firstPauseMs: 50 } });
    faulty.fault = 'killed';
    for (let call = 0; call < 3; call++) await rejects(guarded.get('x'), 'ERR_INFERKV_STORE_FAILED');
    const asked = faulty.faults;
    await rejects(guarded.get('x'), 'ERR_INFERKV_STORE_FAILED', /left alone/);
    assert.equal(faulty.faults, asked, 'it was not asked');
    assert.ok(guarded.isShut);
    faulty.fault = undefined;
    clock.advance(51);
    assert.equal(await guarded.get('x'), undefined);
    assert.equal(guarded.stats().breaker, 'closed');
  });

  it('bounds what runs and what waits', async () => {
    const { clock, faulty, guarded } = make({ maxConcurrent: 2, maxQueued: 3, breaker: { failures: 100 } });
    faulty.fault = 'hung';
    const calls = Array.from({ length: 8 }, () =>
      guarded.get('x').catch((error: unknown) => (error as { code: string }).code),
    );
    await settle();
    assert.deepEqual([guarded.stats().running, guarded.stats().queued, guarded.stats().overloads], [2, 3, 3]);
    clock.advance(101);
    const codes = await Promise.all(calls);
    assert.deepEqual(
      codes.toSorted((a, b) => (String(a) < String(b) ? -1 : 1)),
      [...Array(5).fill('ERR_INFERKV_DEADLINE'), ...Array(3).fill('ERR_INFERKV_OVERLOADED')],
    );
    assert.deepEqual([guarded.stats().running, guarded.stats().queued], [0, 0]);
  });

  it('does not blame the store for a caller that gives up', async () => {
    const { faulty, guarded } = make({ breaker: { failures: 1 } });
    faulty.fault = 'hung';
    const caller = new AbortController();
    const given = rejects(guarded.get('x', { signal: caller.signal }), 'ERR_INFERKV_ABORTED');
    await settle();
    caller.abort();
    await given;
    assert.equal(guarded.stats().breaker, 'closed');
  });

  it('guards epochs and rights, too', async () => {
    const { faulty, guarded } = make();
    faulty.fault = 'refusing';
    await rejects(guarded.epochs?.read(['a']) ?? Promise.resolve(), 'ERR_INFERKV_STORE_FAILED');
    await rejects(guarded.grants?.acquire('a', 1000) ?? Promise.resolve(), 'ERR_INFERKV_STORE_FAILED');
    faulty.fault = undefined;
    assert.deepEqual(await guarded.epochs?.bump(['a']), [1001]);
    await guarded.close();
    await rejects(guarded.get('x'), 'ERR_INFERKV_CLOSED');
  });

  it('measures', async () => {
    const { guarded } = make();
    await guarded.put('x', [new Uint8Array(100)]);
    for (let call = 0; call < 4; call++) await guarded.get('x');
    const { getP50Ms, putP99Ms } = guarded.stats();
    assert.deepEqual([getP50Ms, putP99Ms], [0, 0]);
    assert.equal(guarded.reads.expectedMs(100), 0);
  });
});
