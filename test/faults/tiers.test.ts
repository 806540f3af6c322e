import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { createRandom } from '../../src/base/random.ts';
import { createInferenceCache, type InferenceCache, type Session } from '../../src/index.ts';
import { CountingSession } from '../support/counting-session.ts';
import { FAULTS, FaultyStore } from '../support/faulty-store.ts';
import { until } from '../support/until.ts';
import { STORES, type RunningStores } from '../support/servers.ts';

const DEADLINE_MS = 300;
// The deadlines of a read, of an epoch and of a write, and what a busy machine adds.
const BOUND_MS = 10_000;
const KEYS = 12;
const SEEDS = [1, 2];

for (const [kind, start] of Object.entries(STORES)) {
  describe(`a tier that goes wrong: ${kind}`, () => {
    let running: RunningStores;
    before(async () => {
      running = await start();
    });
    after(() => running.stop());

    for (const fault of FAULTS) {
      for (const seed of SEEDS) {
        it(`${fault}, seed ${seed}: no failed request, no wrong value, and back by itself`, async () => {
          const store = new FaultyStore(running.open(), createRandom(seed));
          const session = new CountingSession();
          const cache = cacheOver(store);
          const digest = `${kind} ${fault} ${seed}`;
          const model = await cache.wrap(session as Session, { artifact: { digest } });
          const ask = async (x: number): Promise<void> => {
            const startMs = performance.now();
            const { outputs } = await model.run(CountingSession.input(x));
            assert.ok(session.isAnswer(x, outputs), `a wrong answer to ${x}`);
            assert.ok(performance.now() - startMs < BOUND_MS, `${x} took too long`);
          };
          const askAll = async (from: number): Promise<void> => {
            for (let x = from; x < from + KEYS; x += 4) await Promise.all([x, x + 1, x + 2, x + 3].map(ask));
          };
          // What was written is found; a busy machine may need more than one round for it.
          const findsAll = async (from: number): Promise<boolean> => {
            const { runs } = session;
            await askAll(from);
            return session.runs === runs;
          };
          await until(() => findsAll(0));
          store.fault = fault;
          await askAll(0);
          await askAll(KEYS);
          assert.ok(store.faults > 0, 'nothing went wrong');
          store.fault = undefined;
          // The breaker lets a call through after its pause.
          const healedBy = performance.now() + 30_000;
          for (let x = 2 * KEYS; cache.tiers().tiers[0]?.breaker !== 'closed'; x++) {
            assert.ok(performance.now() < healedBy, 'it did not come back');
            await ask(x);
            // Requests of a service come by the loop, which the stores need, too.
            await new Promise(setImmediate);
          }
          await until(() => findsAll(3 * KEYS));
          if (['garbage', 'cut', 'flipped', 'other'].includes(fault)) {
            const { faults = {} } = cache.tiers().tiers[0] ?? {};
            assert.ok(Object.values(faults).reduce((sum, each) => sum + each, 0) > 0, 'and counted by reason');
          }
          await cache.close();
        });
      }
    }
  });
}

/** A cache that has nothing in memory, so that the tier is asked every time. */
function cacheOver(store: FaultyStore): InferenceCache {
  return createInferenceCache({
    tiers: { under: { store, deadlineMs: DEADLINE_MS, writeDeadlineMs: 2 * DEADLINE_MS } },
    partitions: { results: { write: 'around', promotion: 'never' } },
    maxStaleMs: 60_000,
    singleFlight: 'off',
  });
}
