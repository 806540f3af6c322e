import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';

import { createRandom } from '../../src/base/random.ts';
import { createRedisStore, type RedisStoreOptions } from '../../src/stores/redis/index.ts';
import type { EpochAuthority, EpochListener, Store } from '../../src/stores/store.ts';
import { RedisServer, until } from '../support/redis-server.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';

const QUICK: RedisStoreOptions = { connectTimeoutMs: 500, silenceMs: 300, heartbeatMs: 100 };
const STREAM = 'inferkv:{epochs}:stream';
const NUMBERS = 'inferkv:{epochs}:numbers';

const open = (port: number, options: RedisStoreOptions = {}): Store =>
  createRedisStore({ port, ...QUICK, random: createRandom(1), ...options });
const epochsOf = (store: Store): EpochAuthority => store.epochs as EpochAuthority;

/** Writes down what it is told: `scope=epoch`, `whole`, `gap`, `lost`. */
class Diary implements EpochListener {
  readonly told: string[] = [];

  bumped(scope: string, epoch: number): void {
    this.told.push(`${scope}=${epoch}`);
  }

  inStep(isWhole: boolean): void {
    this.told.push(isWhole ? 'whole' : 'gap');
  }

  lost(): void {
    this.told.push('lost');
  }

  /** Waits until the last thing told is this; what was told since the last time comes back. */
  async until(last: string): Promise<readonly string[]> {
    await until(() => this.told.at(-1) === last, `${last} after ${this.told.join()}`);
    return this.told.splice(0);
  }
}

describe('epochs in a Redis that fails', () => {
  let server: RedisServer;
  before(async () => {
    server = await RedisServer.start();
  });
  after(() => server[Symbol.asyncDispose]());
  beforeEach(async () => {
    await server.admin.flushall();
  });

  /** A listener behind a proxy, in step; somebody else who bumps. */
  async function subscribed(stack: AsyncDisposableStack) {
    const proxy = stack.use(await TcpProxy.start(server.port));
    const listening = stack.use(open(proxy.port));
    const diary = new Diary();
    const bumping = epochsOf(stack.use(open(server.port)));
    const end = epochsOf(listening).subscribe?.(diary);
    await diary.until('gap');
    return { proxy, diary, bumping, listening, end: end as () => Promise<void> };
  }

  it('tells another node of a bump within a second, and no more once it ended', async () => {
    await using stack = new AsyncDisposableStack();
    const { diary, bumping, end } = await subscribed(stack);
    const begun = performance.now();
    const [epoch] = await bumping.bump(['model:a']);
    await diary.until(`model:a=${epoch}`);
    assert.ok(performance.now() - begun < 1000);
    await end();
    await bumping.bump(['model:a']);
    assert.deepEqual(diary.told, []);
  });

  it('says that it is lost, and tells what was missed once it is back', async () => {
    await using stack = new AsyncDisposableStack();
    const { proxy, diary, bumping } = await subscribed(stack);
    const [first] = await bumping.bump(['a']);
    await diary.until(`a=${first}`);
    proxy.down();
    await diary.until('lost');
    const missed = [...(await bumping.bump(['b', 'a'])), ...(await bumping.bump(['b']))];
    proxy.up();
    assert.deepEqual(await diary.until('whole'), [`b=${missed[0]}`, `a=${missed[1]}`, `b=${missed[2]}`, 'whole']);
    const [next] = await bumping.bump(['c']);
    assert.deepEqual(await diary.until(`c=${next}`), [`c=${next}`]);
  });

  it('says that there is a gap where the stream was trimmed, with and without later changes', async () => {
    await using stack = new AsyncDisposableStack();
    const { proxy, diary, bumping } = await subscribed(stack);
    await bumping.bump(['a']);
    proxy.down();
    await diary.until('lost');
    await bumping.bump(['b']);
    await server.admin.xtrim(STREAM, 'MAXLEN', 0);
    proxy.up();
    assert.deepEqual(await diary.until('gap'), ['gap']);
    proxy.down();
    await diary.until('lost');
    await bumping.bump(['b', 'c']);
    await server.admin.xtrim(STREAM, 'MAXLEN', 1);
    proxy.up();
    const told = await diary.until('gap');
    assert.equal(told.length, 2);
    assert.match(told[0] as string, /^c=/);
    // Where all that was seen is gone, but nothing that was not, there is no gap.
    await bumping.bump(['d']);
    await until(() => diary.told.length === 1);
    diary.told.splice(0);
    proxy.down();
    await diary.until('lost');
    await bumping.bump(['e']);
    await server.admin.xtrim(STREAM, 'MAXLEN', 1);
    proxy.up();
    const [last] = await diary.until('whole');
    assert.match(last as string, /^e=/);
  });

  it('notices entries that vanish while it listens, even the last', async () => {
    await using stack = new AsyncDisposableStack();
    const { diary, bumping } = await subscribed(stack);
    await bumping.bump(['a']);
    await until(() => diary.told.length === 1);
    diary.told.splice(0);
    // Told, but not in the stream: as if it had been trimmed before it was read.
    await server.admin.hincrby(NUMBERS, 'told', 1);
    assert.deepEqual(await diary.until('gap'), ['gap']);
  });

  it('is lost when the server is silent, and in step again when it speaks', async () => {
    await using mortal = await RedisServer.start();
    await using store = open(mortal.port);
    await using other = open(mortal.port);
    const diary = new Diary();
    epochsOf(store).subscribe?.(diary);
    await diary.until('gap');
    mortal.hang();
    const begun = performance.now();
    await diary.until('lost');
    assert.ok(performance.now() - begun < 2000);
    mortal.wake();
    await diary.until('whole');
    const [epoch] = await epochsOf(other).bump(['a']);
    await diary.until(`a=${epoch}`);
  });

  it('gives numbers never given before once it was flushed, and says that all must be read again', async () => {
    await using stack = new AsyncDisposableStack();
    const { diary, bumping } = await subscribed(stack);
    const given = new Set<number>();
    for (let round = 0; round < 3; round++) {
      for (let at = 0; at < 20; at++) for (const epoch of await bumping.bump(['a', 'b'])) given.add(epoch);
      for (const epoch of await bumping.read(['a', 'c'])) given.add(epoch);
      const greatest = Math.max(...given);
      await until(() => diary.told.filter((each) => /=/.test(each)).length === 40);
      diary.told.splice(0);
      await server.admin.flushall();
      for (const epoch of await bumping.read(['a', 'b', 'c', 'never'])) assert.ok(epoch > greatest);
      await diary.until('gap');
    }
  });

  it('makes everything invalid where a server took over that had not heard of all bumps', async () => {
    await using stack = new AsyncDisposableStack();
    const { proxy, diary, bumping } = await subscribed(stack);
    await bumping.bump(['a']);
    const behind = await Promise.all([server.admin.dumpBuffer(NUMBERS), server.admin.dumpBuffer(STREAM)]);
    const [forgotten] = await bumping.bump(['a']);
    await until(() => diary.told.includes(`a=${forgotten}`));
    proxy.down();
    await diary.until('lost');
    await server.admin.restore(NUMBERS, 0, behind[0], 'REPLACE');
    await server.admin.restore(STREAM, 0, behind[1], 'REPLACE');
    // What was made under the number before the bump would be good again.
    assert.ok(((await bumping.read(['a']))[0] as number) < (forgotten as number));
    // Another bump there, so that as many were told as before.
    await bumping.bump(['b']);
    proxy.up();
    await diary.until('gap');
    assert.ok(((await bumping.read(['a']))[0] as number) > (forgotten as number));
  });

  it('holds where clocks were set back', async () => {
    await using ahead = open(server.port, { wallClock: () => Date.now() + 3_600_000 });
    await using behind = open(server.port, { wallClock: () => 0 });
    const [first] = await epochsOf(ahead).read(['a']);
    const [second] = await epochsOf(behind).bump(['a']);
    assert.ok((second as number) > (first as number));
    assert.deepEqual(await epochsOf(ahead).read(['a']), [second]);
  });

  it('lasts for as long as the subscription, and lets the store close', async () => {
    const store = open(server.port);
    epochsOf(store).subscribe?.(new Diary());
    await store.close();
    const unreachable = open(1);
    epochsOf(unreachable).subscribe?.(new Diary());
    await unreachable.close();
  });
});
