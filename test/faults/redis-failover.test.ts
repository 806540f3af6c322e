import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { isInferkvError } from '../../src/base/errors.ts';
import { createRandom } from '../../src/base/random.ts';
import { createRedisStore, type RedisStoreOptions } from '../../src/stores/redis/index.ts';
import type { EpochListener, Store } from '../../src/stores/store.ts';
import { RedisCluster, RedisSentinels } from '../support/redis-cluster.ts';
import { until } from '../support/redis-server.ts';

const QUICK: RedisStoreOptions = { connectTimeoutMs: 500, silenceMs: 500, heartbeatMs: 100 };
const DEADLINE_MS = 500;
/** What a call may take beyond its deadline on a busy machine. */
const SLACK_MS = 3000;
const NAMES = Array.from({ length: 48 }, (_, at) => `block/${at}`);

/** Bytes that say whose they are and of which round, all over. */
const valueOf = (name: string, round: number): Uint8Array => Buffer.alloc(20_000, `${name}#${round};`);

interface Seen {
  served: number;
  failed: number;
  slowestMs: number;
  lastFailureMs: number;
}

/** Reads and writes without a pause until told otherwise; what comes back must be what was written under that name, as a whole. */
function traffic(store: Store): { seen: Seen; end: () => Promise<void> } {
  const seen: Seen = { served: 0, failed: 0, slowestMs: 0, lastFailureMs: 0 };
  let isOver = false;
  const call = async <T>(does: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> => {
    const begun = performance.now();
    try {
      const result = await does(AbortSignal.timeout(DEADLINE_MS));
      seen.served++;
      return result;
    } catch (error) {
      assert.ok(isInferkvError(error), String(error));
      seen.failed++;
      seen.lastFailureMs = performance.now();
      await new Promise((resolve) => void setImmediate(resolve));
      return undefined;
    } finally {
      seen.slowestMs = Math.max(seen.slowestMs, performance.now() - begun);
    }
  };
  const check = (name: string, read: Uint8Array | undefined): void => {
    if (read === undefined) return;
    const [, round] = /#(\d+);/.exec(Buffer.from(read.subarray(0, 40)).toString()) ?? [];
    assert.equal(Buffer.compare(read, valueOf(name, Number(round))), 0, `another value than ${name}'s`);
  };
  const workers = [0, 1, 2].map(async (worker) => {
    const mine = NAMES.filter((_, at) => at % 3 === worker);
    for (let round = 0; !isOver; round++) {
      for (const name of mine) {
        await call((signal) => store.put(name, [valueOf(name, round)], { signal }));
        check(name, await call((signal) => store.get(name, { signal })));
      }
      const many = await call((signal) => store.getMany(mine, { signal }));
      for (const [at, read] of (many ?? []).entries()) check(mine[at] as string, read);
    }
  });
  const end = async (): Promise<void> => {
    isOver = true;
    await Promise.all(workers);
  };
  return { seen, end };
}

/** Whether the last that was said is that nothing is missed from here on. */
class Ear implements EpochListener {
  isInStep = false;
  losses = 0;
  readonly numbers = new Map<string, number>();

  bumped(scope: string, epoch: number): void {
    this.numbers.set(scope, epoch);
  }

  inStep(): void {
    this.isInStep = true;
  }

  lost(): void {
    this.isInStep = false;
    this.losses++;
  }
}

/** Under traffic the master goes; then everything works again, without another store. */
async function survives(store: Store, other: Store, lose: () => Promise<void>): Promise<void> {
  const ear = new Ear();
  store.epochs?.subscribe?.(ear);
  const { seen, end } = traffic(store);
  await until(() => ear.isInStep && seen.served > 200);
  assert.equal(seen.failed, 0);
  const [before] = (await other.epochs?.bump(['model'])) ?? [];
  await until(() => ear.numbers.get('model') === before);
  await lose();
  await until(() => seen.failed > 0, 'a failure');
  // No failure for a while, and calls that touch every slot: it is over.
  await until(async () => {
    if (performance.now() - seen.lastFailureMs < 1000) return false;
    return store.getMany(NAMES).then(
      () => true,
      () => false,
    );
  }, 'recovery');
  await until(() => ear.isInStep, 'epochs in step');
  const [after] = (await other.epochs?.bump(['model'])) ?? [];
  assert.ok((after as number) > (before as number));
  await until(() => ear.numbers.get('model') === after, 'an invalidation');
  const served = seen.served;
  await until(() => seen.served > served + 200);
  await end();
  assert.ok(seen.slowestMs < DEADLINE_MS + SLACK_MS, `a call took ${seen.slowestMs} ms`);
}

describe('a Redis whose master is lost', () => {
  it('as a Cluster: the others serve, and a replica takes over', async () => {
    await using cluster = await RedisCluster.start();
    const options = { ...QUICK, random: createRandom(1), cluster: cluster.nodes.map(({ address }) => address) };
    await using store = createRedisStore(options);
    await using other = createRedisStore(options);
    // The one that has the epochs, too.
    const master = await cluster.masterOf('inferkv:{epochs}:numbers');
    await survives(store, other, () => master.kill());
  });

  it('as a Cluster: one that hangs is lost, too', async () => {
    await using cluster = await RedisCluster.start();
    const options = { ...QUICK, random: createRandom(1), cluster: cluster.nodes.map(({ address }) => address) };
    await using store = createRedisStore(options);
    await using other = createRedisStore(options);
    const master = await cluster.masterOf('inferkv:{epochs}:numbers');
    await survives(store, other, async () => master.hang());
    master.wake();
  });

  it('under Sentinels: the store finds the new master', async () => {
    await using group = await RedisSentinels.start();
    const options = { ...QUICK, random: createRandom(1), sentinels: [group.sentinel.address] };
    await using store = createRedisStore(options);
    await using other = createRedisStore(options);
    await survives(store, other, () => group.master.kill());
  });
});
