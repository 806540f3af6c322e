import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { MapServer, MapStore } from '../../test/support/map-store.ts';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { FakeClock } from '../base/clock.ts';
import { createRandom } from '../base/random.ts';
import { ComputeOnce } from './compute-once.ts';

const settle = (): Promise<void> => new Promise(setImmediate);

/** Moves a clock on until something has come about. */
async function until<T>(clock: FakeClock, promise: Promise<T>, stepMs = 10): Promise<T> {
  let isOver = false;
  const over = promise.finally(() => {
    isOver = true;
  });
  over.catch(() => undefined);
  for (let step = 0; step < 10_000 && !isOver; step++) {
    await settle();
    clock.advance(stepMs);
  }
  return over;
}

describe('computing once for all nodes', () => {
  const nodes = (
    count: number,
  ): { readonly clock: FakeClock; readonly each: ComputeOnce[]; readonly server: MapServer } => {
    const clock = new FakeClock();
    const server = new MapServer(clock);
    const each = Array.from(
      { length: count },
      (_, seed) =>
        new ComputeOnce({
          grants: new MapStore('map', server).grants,
          clock,
          random: createRandom(seed),
          ttlMs: 300,
          waitMs: 5000,
        }),
    );
    return { clock, each, server };
  };

  it('has one compute, and the others read', async () => {
    const { clock, each } = nodes(5);
    let computed = 0;
    let written: number | undefined;
    const { signal } = new AbortController();
    const running = each.map((node) =>
      node.run({
        name: 'x',
        costMs: 1000,
        signal,
        read: async () => written,
        compute: async (token) => {
          computed++;
          assert.ok(token > 0);
          await new Promise<void>((resolve) => void clock.after(1000, resolve));
          written = 7;
          return { value: 7, published: Promise.resolve() };
        },
      }),
    );
    assert.deepEqual(await until(clock, Promise.all(running)), [7, 7, 7, 7, 7]);
    assert.equal(computed, 1, 'the right was renewed for longer than it lasts');
    assert.equal(
      each.reduce((sum, node) => sum + node.stats().shared, 0),
      4,
    );
  });

  it('takes over from one that died, with a greater token', async () => {
    const { clock, each, server } = nodes(1);
    const dead = await new MapStore('map', server).grants.acquire('x', 400);
    const { signal } = new AbortController();
    const tokens: number[] = [];
    const work = {
      name: 'x',
      costMs: 100,
      signal,
      read: async () => undefined,
      compute: async (token: number) => ({ value: tokens.push(token), published: Promise.resolve() }),
    };
    await until(clock, each[0]?.run(work) ?? Promise.reject(new Error()));
    assert.ok((tokens[0] ?? 0) > (dead ?? 0));
  });

  it('computes alone when the other takes too long, and at once where rights cannot be had', async () => {
    const { clock, each, server } = nodes(1);
    await new MapStore('map', server).grants.acquire('x', 1e9);
    const { signal } = new AbortController();
    const work = {
      name: 'x',
      costMs: 100,
      signal,
      read: async () => undefined,
      compute: async (token: number) => ({ value: token, published: Promise.resolve() }),
    };
    assert.equal(await until(clock, each[0]?.run(work) ?? Promise.reject(new Error())), 0);
    assert.equal(each[0]?.stats().alone, 1);
    const faulty = new FaultyStore(new MapStore(), createRandom(1));
    faulty.fault = 'killed';
    const node = new ComputeOnce({ grants: faulty.grants as never, clock, random: createRandom(1) });
    assert.equal(await node.run(work), 0);
  });

  it('does not ask for what costs less than asking', async () => {
    const faulty = new FaultyStore(new MapStore(), createRandom(1));
    faulty.fault = 'hung';
    const node = new ComputeOnce({ grants: faulty.grants as never, clock: new FakeClock(), random: createRandom(1) });
    const { signal } = new AbortController();
    const work = {
      name: 'x',
      costMs: 1,
      signal,
      read: async () => undefined,
      compute: async (token: number) => ({ value: token, published: Promise.resolve() }),
    };
    assert.equal(await node.run(work), 0);
  });

  it('ends with its caller, and a failure is everybody’s own', async () => {
    const { clock, each, server } = nodes(1);
    await new MapStore('map', server).grants.acquire('held', 1e9);
    const caller = new AbortController();
    const work = { costMs: 100, signal: caller.signal, read: async () => undefined };
    const waiting =
      each[0]?.run({ ...work, name: 'held', compute: async () => ({ value: 1, published: Promise.resolve() }) }) ??
      Promise.resolve(1);
    await settle();
    caller.abort();
    await assert.rejects(until(clock, waiting));
    const { signal } = new AbortController();
    const failing = { ...work, signal, name: 'fails', compute: async () => Promise.reject(new Error('no')) };
    await assert.rejects(each[0]?.run(failing) ?? Promise.resolve(), /no/);
    await settle();
    assert.ok(
      (await new MapStore('map', server).grants.acquire('fails', 10)) !== undefined,
      'the right was given back',
    );
  });
});
