import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { describe, it } from 'node:test';

import { createRandom, type Random } from '../../src/base/random.ts';
import { isInferkvError } from '../../src/base/errors.ts';
import type { CachedModel } from '../../src/index.ts';
import { BAD } from '../support/fake-engine.ts';
import { FakeLibrary } from '../support/fake-library.ts';

const NAMES = ['a', 'b', 'c', 'd'] as const;
const FILLS = ['x', 'y', 'z'] as const;
const STEPS = 300;

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What may go wrong when files break and callers give up; anything else is a defect. */
const EXPECTED = new Set([
  'ERR_INFERKV_ABORTED',
  'ERR_INFERKV_DEADLINE',
  'ERR_INFERKV_ARTIFACT_INVALID',
  'ERR_INFERKV_ARTIFACT_CHANGED',
  'ERR_INFERKV_CLOSED',
]);

/** Everything at once, in an order that follows from the seed: requests, changed and broken files, pins, unloads, patience. */
async function live(seed: number): Promise<void> {
  const random = createRandom(seed);
  const among = <T>(choices: readonly T[]): T => choices[random.below(choices.length)] as T;
  await using library = new FakeLibrary({
    partitions: {
      models: { budgetBytes: 4500, policy: among(['lru', 'lfu', 'gdsf']) },
      results: { budgetBytes: 5000 },
    },
    recheckMs: 10,
  });
  library.engine.loadMs = 1;
  /** Contents that a model has had: an answer must come from one of them. */
  const contents = new Map<string, Set<string>>(NAMES.map((name) => [name, new Set()]));
  const change = (name: string): void => {
    const content = random.below(5) === 0 ? BAD : among(FILLS).repeat(500 + random.below(1000));
    library.folder.write(`${name}/1/model.fake`, content);
    contents.get(name)?.add(hash('sha256', content));
  };
  for (const name of NAMES) change(name);
  const pending = new Set<Promise<void>>();
  const failures: unknown[] = [];
  const start = (work: Promise<unknown>): void => {
    const settled: Promise<void> = work
      .then(
        () => undefined,
        (error: unknown) => void (isInferkvError(error) && EXPECTED.has(error.code) ? undefined : failures.push(error)),
      )
      .finally(() => pending.delete(settled));
    pending.add(settled);
  };
  for (let step = 0; step < STEPS; step++) {
    const name = among(NAMES);
    takeStep(library, library.cache.model(name), random, start, () => change(name), contents.get(name) ?? new Set());
    if (random.below(3) === 0) await turn();
    if (random.below(4) === 0) library.clock.advance(random.below(20));
    // A correction may exceed the budget, a load never: the fake engine's sizes do not change, so neither may happen here.
    const { usedBytes, budgetBytes } = library.cache.stats().models;
    assert.ok(usedBytes <= budgetBytes, `${usedBytes} of ${budgetBytes} bytes in use after step ${step}`);
  }
  // Everybody's patience ends, so whatever still waits for room is told so.
  for (const name of NAMES) start(library.cache.model(name).unpin());
  for (let turns = 0; pending.size > 0; turns++) {
    assert.ok(turns < 20_000, `${pending.size} requests hang`);
    library.clock.advance(100);
    await turn();
  }
  assert.deepEqual(failures, []);
  await library.cache.close();
  const { models, results } = library.cache.stats();
  assert.deepEqual([models.usedBytes, models.activeLeases, results.usedBytes, results.activeLeases], [0, 0, 0, 0]);
  assert.ok(
    library.engine.sessions.every(({ closed }) => closed),
    'a session was left open',
  );
}

function takeStep(
  library: FakeLibrary,
  model: CachedModel,
  random: Random,
  start: (work: Promise<unknown>) => void,
  change: () => void,
  contents: ReadonlySet<string>,
): void {
  const request = async (options: Parameters<CachedModel['run']>[1]): Promise<void> => {
    const { outputs } = await model.run({}, { ...options, parameters: { about: random.below(6) } });
    assert.ok(contents.has(String(outputs['digest']?.data[0])), `an answer of a content that ${model.name} never had`);
  };
  const kind = random.below(20);
  if (kind < 8) start(request({ deadlineMs: 1 + random.below(100) }));
  else if (kind < 11) start(request({ cache: 'refresh', deadlineMs: 500 }));
  else if (kind < 13) {
    const caller = new AbortController();
    start(request({ signal: caller.signal, deadlineMs: 1000 }));
    setImmediate(() => caller.abort());
  } else if (kind < 15) change();
  else if (kind === 15) start(model.refresh());
  else if (kind === 16) start(model.unload());
  else if (kind === 17) start(model.pin({ signal: deadline(library, 200) }).then(() => model.unpin()));
  else if (kind === 18)
    start(model.lease({}, { deadlineMs: 300 }).then((answer) => turn().then(() => answer.release())));
  else start(library.cache.models());
}

function deadline(library: FakeLibrary, ms: number): AbortSignal {
  const controller = new AbortController();
  library.clock.after(ms, () => controller.abort());
  return controller.signal;
}

describe('models under fire', { timeout: 120_000 }, () => {
  for (let seed = 1; seed <= 25; seed++) it(`seed ${seed}`, () => live(seed));
});
