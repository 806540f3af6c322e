import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';

import { isInferkvError, type InferkvError } from '../../src/base/errors.ts';
import { createRandom } from '../../src/base/random.ts';
import { createRedisStore, type RedisStoreOptions } from '../../src/stores/redis/index.ts';
import type { Store } from '../../src/stores/store.ts';
import { endsByItself, RedisServer, until } from '../support/redis-server.ts';
import { rejects } from '../support/rejects.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { TempFolder } from '../support/temp.ts';

const FAILED = 'ERR_INFERKV_STORE_FAILED';

/** Quick to notice, so that tests are. */
const QUICK: RedisStoreOptions = { connectTimeoutMs: 500, silenceMs: 300, heartbeatMs: 100 };

const open = (options: RedisStoreOptions): Store => createRedisStore({ ...QUICK, random: createRandom(1), ...options });

/** Bytes that say whose they are, all over. */
const valueOf = (name: string, length = 50_000): Uint8Array => Buffer.alloc(length, `${name};`);

async function works(store: Store): Promise<boolean> {
  try {
    const name = 'works';
    return (await store.put(name, [valueOf(name)])) === 'stored' && (await store.get(name)) !== undefined;
  } catch (error) {
    assert.ok(isInferkvError(error, FAILED), String(error));
    return false;
  }
}

describe('a Redis that fails', () => {
  let server: RedisServer;
  before(async () => {
    server = await RedisServer.start();
  });
  after(() => server[Symbol.asyncDispose]());

  it('is not there: calls fail at once and say what to do, and work when it comes', async () => {
    await using later = await RedisServer.start();
    await later.kill();
    await using store = open({ port: later.port });
    await rejects(store.get('a'), FAILED, /does not listen; check host and port/);
    const begun = performance.now();
    await Promise.all(Array.from({ length: 100 }, () => rejects(store.get('a'), FAILED, /does not listen/)));
    assert.ok(performance.now() - begun < 1000);
    await later.startAgain();
    await until(() => works(store));
  });

  it('is killed under traffic and started again: nothing wrong, nothing hangs, no restart', async () => {
    await using mortal = await RedisServer.start();
    await using store = open({ port: mortal.port });
    const names = Array.from({ length: 8 }, (_, at) => `n${at}`);
    for (const name of names) await store.put(name, [valueOf(name)]);
    const outcomes = { failed: 0, read: 0, gone: 0 };
    let isOver = false;
    const traffic = names.map(async (name) => {
      while (!isOver) {
        try {
          const read = await store.get(name, { signal: AbortSignal.timeout(1000) });
          if (read === undefined) outcomes.gone++;
          else {
            outcomes.read++;
            assert.equal(Buffer.compare(read, valueOf(name)), 0);
          }
          await store.put(name, [valueOf(name)], { signal: AbortSignal.timeout(1000) });
        } catch (error) {
          outcomes.failed++;
          assert.ok(isInferkvError(error, FAILED), String(error));
          await new Promise((resolve) => void setImmediate(resolve));
        }
      }
    });
    await until(() => outcomes.read > 50);
    await mortal.kill();
    await until(() => outcomes.failed > 50);
    await mortal.startAgain();
    const { read } = outcomes;
    await until(() => outcomes.read > read + 50);
    isOver = true;
    await Promise.all(traffic);
  });

  it('hangs: calls end with their signals, what waits is bounded, and it is found again', async () => {
    await using hanging = await RedisServer.start();
    await using store = open({ port: hanging.port, maxPendingCalls: 20 });
    await store.put('a', [valueOf('a')]);
    hanging.hang();
    const calls = Array.from({ length: 60 }, () => store.get('a', { signal: AbortSignal.timeout(100) }));
    const errors = (await Promise.allSettled(calls)).map((each) => (each as PromiseRejectedResult).reason as unknown);
    assert.equal(errors.filter((each) => isInferkvError(each, 'ERR_INFERKV_ABORTED')).length, 20);
    assert.equal(
      errors.filter((each) => isInferkvError(each, FAILED) && /no more may wait/.test(each.message)).length,
      40,
    );
    // The connection is given up as silent, and another one is not ready in time either.
    await until(async () => {
      const error = await store.get('a').catch((each: unknown) => each as InferkvError);
      return isInferkvError(error, FAILED) && /in time/.test(error.message);
    });
    hanging.wake();
    await until(() => works(store));
    assert.equal(Buffer.compare((await store.get('a')) as Uint8Array, valueOf('a')), 0);
  });

  it('answers late: an answer that nobody waits for is dropped, the next call gets its own', async () => {
    await using slow = await RedisServer.start();
    await using store = open({ port: slow.port, silenceMs: 5000 });
    await store.put('first', [valueOf('first')]);
    await store.put('second', [valueOf('second')]);
    slow.hang();
    await rejects(store.get('first', { signal: AbortSignal.timeout(50) }), 'ERR_INFERKV_ABORTED');
    const second = store.get('second');
    slow.wake();
    assert.equal(Buffer.compare((await second) as Uint8Array, valueOf('second')), 0);
  });

  it('is cut in the middle of a value: a read is done again, a write is not believed', async () => {
    await using proxy = await TcpProxy.start(server.port);
    await using store = open({ port: proxy.port });
    const bytes = valueOf('cut', 1_000_000);
    await store.put('cut', [bytes]);
    for (const at of [1, 3, 9, 10, 5000, 70_000, 999_999, 1_000_009]) {
      proxy.cutAfterBytes = at;
      assert.equal(Buffer.compare((await store.get('cut')) as Uint8Array, bytes), 0, `cut after ${at}`);
    }
    proxy.cutAfterBytes = 2;
    await rejects(store.put('cut', [bytes]), FAILED);
    assert.equal(await works(store), true);
  });

  it('answers garbage: calls fail, and the connection is not used again', async () => {
    await using proxy = await TcpProxy.start(server.port);
    await using store = open({ port: proxy.port });
    await store.put('a', [valueOf('a', 200)]);
    const garbles: readonly ((bytes: Buffer) => Buffer)[] = [
      () => Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
      () => Buffer.from(':1\r\n'),
      () => Buffer.from('*2\r\n$1\r\na\r\n$1\r\nb\r\n'),
      // More than was asked for, so that every later answer would be that of the call before.
      (bytes) => Buffer.concat([bytes, Buffer.from('$5\r\nother\r\n')]),
      // A length that never comes.
      () => Buffer.from('$900000000\r\nabc'),
    ];
    for (const [at, garble] of garbles.entries()) {
      assert.equal(await works(store), true, `before ${at}`);
      proxy.garble = garble;
      const first = await store.get('a').catch((error: unknown) => error);
      proxy.garble = undefined;
      assert.ok(isInferkvError(first, FAILED) || Buffer.compare(first as Uint8Array, valueOf('a', 200)) === 0, `${at}`);
      await until(() => works(store));
      assert.equal(Buffer.compare((await store.get('a')) as Uint8Array, valueOf('a', 200)), 0, `after ${at}`);
    }
  });

  it('is full, or reads only', async () => {
    await using small = await RedisServer.start({
      settings: ['--maxmemory', '3mb', '--maxmemory-policy', 'noeviction'],
    });
    await using store = open({ port: small.port });
    await store.put('a', [valueOf('a', 100)]);
    const outcomes: string[] = [];
    for (let at = 0; at < 20; at++) outcomes.push(await store.put(`big/${at}`, [new Uint8Array(500_000)]));
    assert.ok(outcomes.includes('stored') && outcomes.at(-1) === 'full', outcomes.join());
    assert.equal(await store.put('fenced', [new Uint8Array(500_000)], { token: 3 }), 'full');
    assert.equal(Buffer.compare((await store.get('a')) as Uint8Array, valueOf('a', 100)), 0);
    // What is wrong must be forgotten all the same.
    const [before_] = (await store.epochs?.read(['x'])?.catch(() => [0])) ?? [];
    const [raised] = (await store.epochs?.bump(['x'])) ?? [];
    assert.ok((raised as number) > (before_ as number));

    await small.admin.config('SET', 'maxmemory', '0');
    await small.admin.replicaof(server.host, server.port);
    await until(async () => (await small.admin.info('replication')).includes('master_link_status:up'));
    await rejects(store.put('a', [valueOf('a')]), FAILED, /is a replica that takes no writes; name the master/);
    await small.admin.replicaof('NO', 'ONE');
    await until(() => works(store));
  });

  it('does not know the user: the error says so, and shows no password', async () => {
    await using closedOne = await RedisServer.start({ password: 'right' });
    // The rights that docs/stores/redis.md names.
    const rights = '~inferkv:* -@all +@connection +@read +@write +@scripting +info +time'.split(' ');
    await closedOne.admin.acl('SETUSER', 'cache', 'on', '>secret', ...rights);
    await closedOne.admin.acl('SETUSER', 'weak', 'on', '>weaker', '~inferkv:*', '+get', '+info', '+hello', '+client');
    const { port } = closedOne;
    for (const [options, says] of [
      [{ port }, /set the options `username` and `password`/],
      [{ port, password: 'wrong-one' }, /check the options `username` and `password`/],
      [{ url: `redis://cache:wrong-one@127.0.0.1:${port}` }, /check the options `username` and `password`/],
      [{ port, username: 'weak', password: 'weaker' }, /does not allow that user/],
    ] as const) {
      await using store = open(options);
      const error = (await store.put('a', [valueOf('a')]).catch((each: unknown) => each)) as InferkvError;
      assert.ok(isInferkvError(error, FAILED), String(error));
      assert.match(error.message, says);
      const all = `${error.message} ${JSON.stringify(error)} ${JSON.stringify(error.cause, Object.getOwnPropertyNames(error.cause))}`;
      assert.doesNotMatch(all, /wrong-one|weaker/);
    }
    await using store = open({ port, username: 'cache', password: 'secret' });
    assert.equal(await works(store), true);
    assert.equal((await store.epochs?.bump(['a', 'b']))?.length, 2);
    assert.ok(((await store.grants?.acquire('a', 1000)) ?? 0) > 0);
    assert.equal(await store.put('fenced', [valueOf('fenced')], { token: 3 }), 'stored');
    await using default_ = open({ url: `redis://:right@127.0.0.1:${port}/2` });
    assert.equal(await works(default_), true);
    await using nowhere = open({ url: `redis://:right@127.0.0.1:${port}/99` });
    await rejects(nowhere.get('a'), FAILED, /has no database of that number/);
  });

  it('speaks TLS, to those who trust its certificate', async () => {
    using folder = new TempFolder();
    const [key, cert] = [folder.at('key.pem'), folder.at('cert.pem')];
    const words =
      'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1';
    execFileSync('openssl', [...words.split(' '), '-keyout', key, '-out', cert], { stdio: 'ignore' });
    await using secret = await RedisServer.start({ tls: { key, cert } });
    await using store = open({ port: secret.port, tls: { ca: readFileSync(cert) } });
    assert.equal(await works(store), true);
    assert.deepEqual(
      (await store.getMany(['works', 'none'])).map((each) => each?.length),
      [50_000, undefined],
    );
    await using distrustful = open({ url: `rediss://127.0.0.1:${secret.port}` });
    await rejects(distrustful.get('a'), FAILED, /certificate that is not trusted/);
    await using plain = open({ port: secret.port });
    await rejects(plain.get('a'), FAILED);
  });

  it('does not keep a process alive that has nothing else to do', async () => {
    await endsByItself({ port: server.port });
  });

  it('is closed while calls wait for a server that hangs', async () => {
    await using hanging = await RedisServer.start();
    const store = open({ port: hanging.port });
    await store.put('a', [valueOf('a')]);
    hanging.hang();
    const waiting = rejects(store.get('a'), FAILED);
    await store.close();
    await waiting;
    hanging.wake();
  });
});
