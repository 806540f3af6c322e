import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { rmSync, utimesSync } from 'node:fs';
import { describe, it } from 'node:test';

import { BAD, type FakeSession } from '../../test/support/fake-engine.ts';
import { FakeLibrary } from '../../test/support/fake-library.ts';
import { isInferkvError } from '../base/errors.ts';
import { ENTRY_OVERHEAD_BYTES } from '../cache/entry-facts.ts';
import type { Answer, CachedModel, InferenceCacheOptions } from '../index.ts';
import { rejects } from '../../test/support/rejects.ts';

const LOADED = 1000 + ENTRY_OVERHEAD_BYTES;
const LOADING = 1300 + ENTRY_OVERHEAD_BYTES;

/** Room for that many models of 1,000 bytes, one of them being loaded. */
const roomFor = (models: number, policy: 'lru' | 'lfu' | 'gdsf' = 'lru', more: object = {}): InferenceCacheOptions => ({
  partitions: { models: { budgetBytes: (models - 1) * LOADED + LOADING, policy, ...more } },
});

let asked = 0;
/** A request unlike any other before it, so that the model has to run. */
const ask = (model: CachedModel, options: Parameters<CachedModel['run']>[1] = {}): Promise<Answer> =>
  model.run({}, { ...options, parameters: { asked: asked++ } });

const digestOf = ({ outputs }: Answer): unknown => outputs['digest']?.data[0];

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const MAX_TURNS = 100_000;

/** Turns of the loop until something is so. */
async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let turns = 0; !(await isSo()); turns++) {
    assert.ok(turns < MAX_TURNS, 'it never came true');
    await turn();
  }
}

/** Holds a session's runs until it is let go. */
function hold(session: FakeSession | undefined): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  assert.ok(session !== undefined);
  session.gate = promise;
  return () => {
    session.gate = Promise.resolve();
    resolve();
  };
}

describe('models in memory', { timeout: 30_000 }, () => {
  it('are loaded once for many callers, and found loaded afterwards', async () => {
    await using library = new FakeLibrary();
    const model = library.model('a');
    await Promise.all(Array.from({ length: 20 }, () => ask(model)));
    await ask(model);
    assert.equal(library.engine.loads.length, 1);
    assert.equal(library.cache.stats().models.activeLeases, 0);
  });

  it('are loaded side by side, so that a slow load stops nobody', async () => {
    await using library = new FakeLibrary();
    const [slow, quick] = [library.model('slow'), library.model('quick')];
    const { promise, resolve } = Promise.withResolvers<void>();
    library.engine.gates.set('slow/1/model.fake', promise);
    const waiting = ask(slow);
    await ask(quick);
    assert.deepEqual(await library.resident(slow, quick), ['quick']);
    resolve();
    await waiting;
  });

  it('leave by recency when another needs the room', async () => {
    await using library = new FakeLibrary(roomFor(2, 'lru'));
    const [a, b, c] = [library.model('a'), library.model('b'), library.model('c')];
    for (const model of [a, b, a, c]) await ask(model);
    assert.deepEqual(await library.resident(a, b, c), ['a', 'c']);
    assert.ok(library.cache.stats().models.usedBytes <= library.cache.stats().models.budgetBytes);
    assert.equal(library.engine.sessions[1]?.closed, true);
  });

  it('leave by frequency', async () => {
    await using library = new FakeLibrary(roomFor(2, 'lfu'));
    const [a, b, c] = [library.model('a'), library.model('b'), library.model('c')];
    for (const model of [a, a, a, b, c]) await ask(model);
    assert.deepEqual(await library.resident(a, b, c), ['a', 'c']);
  });

  it('leave by what it would cost to load them again', async () => {
    await using library = new FakeLibrary(roomFor(2, 'gdsf'));
    const [dear, cheap, next] = [library.model('dear'), library.model('cheap'), library.model('next')];
    library.engine.loadMs = 10_000;
    await ask(dear);
    library.engine.loadMs = 1;
    for (const model of [cheap, cheap, cheap, next]) await ask(model);
    assert.deepEqual(await library.resident(dear, cheap, next), ['dear', 'next']);
  });

  it('never leave while they are in use', async () => {
    await using library = new FakeLibrary(roomFor(2));
    const [a, b, c] = [library.model('a'), library.model('b'), library.model('c')];
    await ask(a);
    await ask(b);
    const letGo = hold(library.engine.sessions[0]);
    const running = ask(a);
    await ask(b);
    await ask(c);
    assert.deepEqual(await library.resident(a, b, c), ['a', 'c']);
    letGo();
    await running;
  });

  it('wait for room while all others are in use, until their callers stop waiting', async () => {
    await using library = new FakeLibrary(roomFor(1));
    const [a, b] = [library.model('a'), library.model('b')];
    await ask(a);
    const letGo = hold(library.engine.sessions[0]);
    const running = ask(a);
    const impatient = rejects(ask(b, { deadlineMs: 50 }), 'ERR_INFERKV_DEADLINE', /50 ms/);
    const patient = ask(b);
    // The wait for room begins when the file was read.
    await library.cache.model('b').status();
    await turn();
    library.clock.advance(50);
    await impatient;
    assert.deepEqual(library.engine.loads.length, 1);
    letGo();
    await Promise.all([running, patient]);
    assert.deepEqual(await library.resident(a, b), ['b']);
  });

  it('stay when they are pinned, and may leave when they are not any more', async () => {
    await using library = new FakeLibrary(roomFor(2));
    const [a, b, c] = [library.model('a'), library.model('b'), library.model('c')];
    await a.pin();
    await a.pin();
    for (const model of [b, c, b, c]) await ask(model);
    assert.deepEqual(await library.resident(a, b, c), ['a', 'c']);
    assert.equal((await a.status()).pinned, true);
    await a.unpin();
    await ask(b);
    assert.deepEqual(await library.resident(a, b, c), ['b', 'c']);
  });

  it('stay from their first load on when their settings say so', async () => {
    await using library = new FakeLibrary({ ...roomFor(2), models: { a: { pinned: true } } });
    const [a, b, c] = [library.model('a'), library.model('b'), library.model('c')];
    for (const model of [a, b, c, b, c]) await ask(model);
    assert.deepEqual(await library.resident(a, c), ['a', 'c']);
  });

  it('leave when nobody used them for as long as they are kept alive', async () => {
    await using library = new FakeLibrary({
      ...roomFor(5, 'lru', { keepAliveMs: 1000 }),
      models: { b: { keepAliveMs: 5000 } },
    });
    const [a, b] = [library.model('a'), library.model('b')];
    library.engine.loadMs = 0;
    await ask(a);
    await ask(b);
    library.clock.advance(999);
    await ask(a);
    library.clock.advance(999);
    assert.deepEqual(await library.resident(a, b), ['a', 'b']);
    const letGo = hold(library.engine.sessions[0]);
    const running = ask(a);
    library.clock.advance(2000);
    assert.deepEqual(await library.resident(a, b), ['a', 'b']);
    letGo();
    await running;
    library.clock.advance(1000);
    assert.deepEqual(await library.resident(a, b), ['b']);
    library.clock.advance(5000);
    assert.deepEqual(await library.resident(a, b), []);
    await ask(a);
    assert.equal(library.engine.loads.length, 3);
  });

  it('are loaded and unloaded when asked to; unloading lets runs end', async () => {
    await using library = new FakeLibrary();
    const model = library.model('a');
    assert.equal((await model.load()).resident, true);
    const letGo = hold(library.engine.sessions[0]);
    const running = ask(model);
    await turn();
    let unloaded = false;
    const unloading = model.unload().then(() => (unloaded = true));
    await turn();
    assert.equal(unloaded, false);
    letGo();
    await Promise.all([running, unloading]);
    assert.equal(library.cache.stats().models.usedBytes, 0);
    assert.equal((await model.status()).resident, false);
    await ask(model);
    assert.equal(library.engine.loads.length, 2);
  });

  it('are accounted: reserved before the load, corrected by what the engine counts, remembered for the next load', async () => {
    await using library = new FakeLibrary(roomFor(3));
    const [model, other] = [library.model('a'), library.model('other', 1000, 'o')];
    const { promise, resolve } = Promise.withResolvers<void>();
    library.engine.gates.set('a/1/model.fake', promise);
    const loading = ask(model);
    await until(() => library.engine.loads.length === 1);
    const used = (): number => library.cache.stats().models.usedBytes;
    assert.equal(used(), LOADING);
    resolve();
    await loading;
    assert.equal(used(), LOADED);
    const [session] = library.engine.sessions;
    assert.ok(session !== undefined);
    session.sizeBytes = 2500;
    await ask(model);
    assert.equal(used(), 2500 + ENTRY_OVERHEAD_BYTES);
    await model.unload();
    await ask(other);
    const again = Promise.withResolvers<void>();
    library.engine.gates.set('a/1/model.fake', again.promise);
    const reloading = ask(model);
    await until(() => library.engine.loads.length === 3);
    assert.equal(used(), LOADED + 2500 + ENTRY_OVERHEAD_BYTES);
    again.resolve();
    await reloading;
  });

  it('larger than the whole budget are refused, and disturb nobody', async () => {
    await using library = new FakeLibrary(roomFor(2));
    const [a, giant] = [library.model('a'), library.model('giant', 100_000)];
    await ask(a);
    await rejects(ask(giant), 'ERR_INFERKV_BUDGET_EXCEEDED', /"giant".*budgetBytes/);
    assert.deepEqual(library.engine.loads.length, 1);
    assert.deepEqual(await library.resident(a, giant), ['a']);
  });

  it('that cannot be loaded fail for all who wait, and are tried again', async () => {
    await using library = new FakeLibrary();
    library.folder.write('broken/1/model.fake', BAD);
    const broken = library.cache.model('broken');
    const requests = Array.from({ length: 5 }, () => rejects(ask(broken), 'ERR_INFERKV_ARTIFACT_INVALID'));
    await Promise.all(requests);
    assert.equal(library.engine.loads.length, 1);
    await rejects(ask(broken), 'ERR_INFERKV_ARTIFACT_INVALID');
    library.folder.write('broken/1/model.fake', 'good');
    await broken.refresh();
    assert.equal(digestOf(await ask(broken)), hash('sha256', 'good'));
    assert.equal(library.cache.stats().models.entries, 1);
  });
});

describe('a model whose file changes', { timeout: 30_000 }, () => {
  const [first, second] = [hash('sha256', 'x'.repeat(1000)), hash('sha256', 'y'.repeat(1000))];

  /** Requests without a pause until told to stop; gives every answer. */
  const keepAsking = (model: CachedModel): (() => Promise<readonly Answer[]>) => {
    const answers: Promise<Answer>[] = [];
    let asking = true;
    const loop = (async (): Promise<void> => {
      while (asking) {
        answers.push(ask(model));
        await turn();
      }
    })();
    return async () => {
      asking = false;
      await loop;
      return Promise.all(answers);
    };
  };

  it('is swapped without a failed request, the old one serving until the new one can', async () => {
    await using library = new FakeLibrary(roomFor(3));
    const model = library.model('a');
    await ask(model);
    const stop = keepAsking(model);
    library.model('a', 1000, 'y');
    // Noticed beside a request, once the file may be looked at again.
    library.clock.advance(1000);
    await until(() => library.engine.sessions[0]?.closed === true);
    const answers = (await stop()).map(digestOf);
    const swappedAt = answers.indexOf(second);
    assert.ok(swappedAt > 0);
    assert.deepEqual(new Set(answers.slice(0, swappedAt)), new Set([first]));
    assert.deepEqual(new Set(answers.slice(swappedAt)), new Set([second]));
    assert.equal((await model.status()).digest, second);
    assert.equal(library.cache.stats().models.entries, 1);
  });

  it('is swapped where both do not fit together: requests wait while the old one drains', async () => {
    await using library = new FakeLibrary(roomFor(1));
    const model = library.model('a');
    await ask(model);
    const letGo = hold(library.engine.sessions[0]);
    const running = ask(model);
    await turn();
    library.model('a', 1000, 'y');
    const refreshing = model.refresh();
    await until(async () => (await model.status()).digest === second);
    const waiting = ask(model);
    const impatient = rejects(ask(model, { deadlineMs: 10 }), 'ERR_INFERKV_DEADLINE');
    await turn();
    library.clock.advance(10);
    await impatient;
    assert.ok(library.cache.stats().models.usedBytes <= library.cache.stats().models.budgetBytes);
    letGo();
    assert.equal(digestOf(await running), first);
    assert.equal(digestOf(await waiting), second);
    assert.equal((await refreshing).digest, second);
  });

  it('stays pinned if it was', async () => {
    await using library = new FakeLibrary(roomFor(3));
    const model = library.model('a');
    await model.pin();
    library.model('a', 1000, 'y');
    const { digest, pinned } = await model.refresh();
    assert.deepEqual({ digest, pinned }, { digest: second, pinned: true });
  });

  it('is not loaded again for the same bytes', async () => {
    await using library = new FakeLibrary();
    const model = library.model('a');
    await ask(model);
    utimesSync(library.folder.at('a', '1', 'model.fake'), 1, 1);
    await model.refresh();
    library.model('a');
    await model.refresh();
    assert.equal(library.engine.loads.length, 1);
  });

  it('goes on serving the old content while the new one is no model, and says so', async () => {
    await using library = new FakeLibrary();
    const model = library.model('a');
    await ask(model);
    library.folder.write('a/1/model.fake', BAD);
    await rejects(model.refresh(), 'ERR_INFERKV_ARTIFACT_INVALID', /goes on serving/);
    assert.equal(digestOf(await ask(model)), first);
    assert.ok(isInferkvError((await model.status()).fault, 'ERR_INFERKV_ARTIFACT_INVALID'));
    // A content that was refused is not loaded again and again.
    await rejects(model.refresh(), 'ERR_INFERKV_ARTIFACT_INVALID');
    assert.equal(library.engine.loads.length, 2);
    library.model('a', 1000, 'y');
    assert.equal((await model.refresh()).fault, undefined);
    assert.equal(digestOf(await ask(model)), second);
  });

  it('goes on serving when its file is gone', async () => {
    await using library = new FakeLibrary();
    const model = library.model('a');
    await ask(model);
    rmSync(library.folder.at('a'), { recursive: true });
    await rejects(model.refresh(), 'ERR_INFERKV_MODEL_NOT_FOUND');
    assert.equal(digestOf(await ask(model)), first);
    assert.ok(isInferkvError((await model.status()).fault, 'ERR_INFERKV_MODEL_NOT_FOUND'));
  });

  it('has a new version as soon as its folder does, while the old one can be asked for by its number', async () => {
    await using library = new FakeLibrary();
    const model = library.model('a');
    await ask(model);
    library.folder.write('a/2/model.fake', 'y'.repeat(1000));
    assert.equal((await model.refresh()).version, '2');
    assert.equal(digestOf(await ask(model)), second);
    const old = library.cache.model('a', { version: '1' });
    assert.equal(digestOf(await ask(old)), first);
    assert.equal((await old.status()).version, '1');
  });

  it('has none of its old results served', async () => {
    await using library = new FakeLibrary();
    const model = library.model('a');
    assert.equal(digestOf(await model.run({})), first);
    library.model('a', 1000, 'y');
    await model.refresh();
    assert.equal(library.cache.stats().results.entries, 0);
    const answer = await model.run({});
    assert.deepEqual([digestOf(answer), answer.cache.status], [second, 'miss']);
  });
});
