import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import type { Clock } from '../../src/base/clock.ts';
import { createRandom } from '../../src/base/random.ts';
import { Dynalite, storeBehind } from '../support/dynalite.ts';
import { dynamoError } from '../support/dynamo-proxy.ts';
import { rejects } from '../support/rejects.ts';
import { judge, sealedRecord } from '../support/sealed-records.ts';

const FAILED = 'ERR_INFERKV_STORE_FAILED';

describe('dynamodb with too much to do, on dynalite', () => {
  let server: Dynalite;
  before(async () => {
    server = await Dynalite.start();
  });
  after(() => server.kill());

  for (const name of ['ProvisionedThroughputExceededException', 'ThrottlingException', 'RequestLimitExceeded']) {
    it(`waits longer and longer, by chance, while it is told ${name}`, async () => {
      const clock = new HastyClock();
      await using both = await storeBehind(server, { clock, random: createRandom(1), retryMs: 10_000, timeoutMs: 1e9 });
      const { proxy, store } = both;
      let left = 6;
      proxy.instead = () => (left-- > 0 ? dynamoError(name) : undefined);
      assert.equal(await store.put('throttled', [Uint8Array.of(1)]), 'stored');
      assert.equal(clock.waits.length, 6);
      for (const [at, wait] of clock.waits.entries()) assert.ok(wait >= 1 && wait <= 1 + 25 * 2 ** at, `${wait} ms`);
      assert.ok(Math.max(...clock.waits) > 100 && new Set(clock.waits).size === 6, 'spread');
      left = 2;
      assert.deepEqual([...((await store.getMany(['throttled']))[0] ?? [])], [1]);
    });
  }

  it('gives up when it was throttled for too long, or its signal ends, and goes on afterwards', async () => {
    const clock = new HastyClock();
    await using both = await storeBehind(server, { clock, random: createRandom(2), retryMs: 3000, timeoutMs: 1e9 });
    const { proxy, store } = both;
    let isBusy = true;
    proxy.instead = () => (isBusy ? dynamoError('ThrottlingException') : undefined);
    await rejects(store.get('a'), FAILED, /too much to do for 3000 ms/);
    assert.ok(clock.now() <= 3000 && clock.waits.length > 5, `${clock.waits.length} tries in ${clock.now()} ms`);
    const given = new AbortController();
    clock.onWait = () => clock.waits.length > 20 && given.abort();
    clock.waits.length = 0;
    await rejects(both.store.epochs?.bump(['a'], { signal: given.signal }) as Promise<unknown>, FAILED);
    const tries = clock.waits.length;
    clock.onWait = () => given.abort();
    await rejects(store.get('a', { signal: given.signal }), 'ERR_INFERKV_ABORTED');
    assert.equal(clock.waits.length, tries + 1);
    isBusy = false;
    assert.equal(await store.get('a'), undefined);
  });

  it('asks again for what was left unprocessed', async () => {
    const clock = new HastyClock();
    await using both = await storeBehind(server, { clock, random: createRandom(3), timeoutMs: 1e9 });
    const { proxy, store } = both;
    const names = Array.from({ length: 130 }, (_, at) => `left/${at}`);
    const lengthOf = (at: number): number => (at % 10 === 0 ? 150_000 : 300);
    await Promise.all(names.map((name, at) => store.put(name, sealedRecord(name, lengthOf(at)))));
    proxy.asked.length = 0;
    const read = await store.getMany([...names, 'left/none', 'left/0']);
    for (const [at, name] of names.entries()) assert.equal(judge(name, lengthOf(at), read[at] as Uint8Array), 'right');
    assert.equal(read[130], undefined);
    assert.equal(judge('left/0', lengthOf(0), read[131] as Uint8Array), 'right');
    assert.ok(proxy.asked.length > 2, `${proxy.asked.length} requests for 131 keys`);
    assert.equal(clock.waits.length, 0, 'what was only too long for one answer is asked for at once');

    // Nothing is processed three times, then one item, then all.
    let left = 4;
    proxy.instead = (operation, body) => {
      const { RequestItems } = JSON.parse(body) as { RequestItems: { cache: { Keys: unknown[] } & unknown[] } };
      if (left === 0 || !operation.startsWith('Batch')) return undefined;
      left--;
      if (operation === 'BatchGetItem') {
        return { status: 200, body: JSON.stringify({ Responses: { cache: [] }, UnprocessedKeys: RequestItems }) };
      }
      return { status: 200, body: JSON.stringify({ UnprocessedItems: RequestItems }) };
    };
    assert.equal(judge('left/1', 300, (await store.getMany(['left/1']))[0] as Uint8Array), 'right');
    assert.equal(clock.waits.length, 4);
    left = 4;
    assert.equal(await store.put('left/long', sealedRecord('left/long', 900_000)), 'stored');
    assert.equal(left, 0);
    assert.equal(judge('left/long', 900_000, (await store.get('left/long')) as Uint8Array), 'right');
  });
});

/** A clock whose timers fire at once, and which has moved on by as much as they were set to. */
class HastyClock implements Clock {
  readonly waits: number[] = [];
  onWait: () => unknown = () => undefined;
  #now = 0;

  now(): number {
    return this.#now;
  }

  after(delayMs: number, callback: () => void): { cancel(): void } {
    // The time that a request may take never comes.
    if (delayMs >= 1e9) return { cancel: () => undefined };
    this.waits.push(delayMs);
    const timer = setImmediate(() => {
      this.#now += delayMs;
      this.onWait();
      callback();
    });
    return { cancel: () => clearImmediate(timer) };
  }
}
