import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';

import { FakeClock, systemClock } from '../../src/base/clock.ts';
import { createRandom } from '../../src/base/random.ts';
import { Connection } from '../../src/stores/memcached/connection.ts';
import { createMemcachedStore } from '../../src/stores/memcached/index.ts';
import { OPCODE, storeExtras, type Response } from '../../src/stores/memcached/protocol.ts';
import type { EpochAuthority, GrantAuthority, Store } from '../../src/stores/store.ts';
import { CutProxy } from '../support/cut-proxy.ts';
import { freePort, memcachedMissing, MemcachedServer } from '../support/memcached-server.ts';
import { rejects } from '../support/rejects.ts';
import { judge, sealedRecord } from '../support/sealed-records.ts';
import { TempFolder } from '../support/temp.ts';

const FAILED = 'ERR_INFERKV_STORE_FAILED';
const CHUNKED = { maxItemBytes: 64 * 1024 };

describe('memcached under faults', { skip: memcachedMissing() }, () => {
  let server: MemcachedServer;
  before(async () => {
    server = await MemcachedServer.start();
  });
  after(() => server.kill());

  it('rejects while its server is killed, and goes on when it is back', async () => {
    await using own = await MemcachedServer.start();
    await using store = createMemcachedStore({ servers: [own.address] });
    await store.put('a', [Uint8Array.of(1)]);
    const asked = Array.from({ length: 50 }, () => store.get('a').catch((error: unknown) => error));
    await own.kill();
    // Answered before, or rejected: each one settles.
    await Promise.all(asked);
    // The client may not have seen its connection end yet.
    await rejects(store.get('a'), FAILED, /cannot be reached|closed the connection/);
    await rejects(store.put('a', [Uint8Array.of(1)]), FAILED);
    await rejects(store.getMany(['a', 'b']), FAILED);
    await own.restart();
    assert.equal(await store.get('a'), undefined);
    assert.equal(await store.put('a', [Uint8Array.of(2)]), 'stored');
    assert.deepEqual([...((await store.get('a')) ?? [])], [2]);
  });

  it('connects when its server comes up after it', async () => {
    const port = await freePort();
    await using store = createMemcachedStore({ servers: [`127.0.0.1:${port}`] });
    await rejects(store.get('a'), FAILED, /check that it runs/);
    await rejects((store.epochs as EpochAuthority).bump(['a']), FAILED);
    await rejects((store.grants as GrantAuthority).acquire('a', 1000), FAILED);
  });

  it('is bound by the signal and by the silence while its server hangs', async () => {
    await using own = await MemcachedServer.start();
    const clock = new FakeClock();
    await using store = createMemcachedStore({ servers: [own.address], silenceMs: 5000, clock });
    await store.put('a', [Uint8Array.of(1)]);
    await own.kill('SIGSTOP');
    const given = new AbortController();
    const late = store.get('a', { signal: given.signal });
    const silent = store.get('a');
    given.abort();
    await rejects(late, 'ERR_INFERKV_ABORTED');
    clock.advance(4999);
    const later = store.put('b', [Uint8Array.of(2)]);
    clock.advance(1);
    await rejects(silent, FAILED, /said nothing for 5000 ms/);
    await rejects(later, FAILED);
    await own.kill('SIGCONT');
    assert.deepEqual([...((await store.get('a')) ?? [])], [1]);
  });

  it('loses the names of a dead server, and no others', async () => {
    await using first = await MemcachedServer.start();
    await using second = await MemcachedServer.start();
    await using store = createMemcachedStore({ servers: [first.address, second.address], ...CHUNKED });
    const names = Array.from({ length: 60 }, (_, at) => `spread/${at}`);
    for (const name of names) await store.put(name, sealedRecord(name, 100_000));
    const only = createMemcachedStore({ servers: [first.address] });
    await using _only = only;
    await second.kill();
    const many = await store.getMany(names);
    const each = await Promise.all(names.map((name) => store.get(name).catch(() => 'failed')));
    const alive = names.filter((_, at) => many[at] !== undefined);
    assert.ok(alive.length > 10 && alive.length < 50, `${alive.length} of 60 names on one of two servers`);
    for (const [at, name] of names.entries()) {
      const bytes = many[at];
      if (bytes === undefined) assert.equal(each[at], 'failed');
      else assert.equal(judge(name, 100_000, bytes), 'right');
    }
    await second.restart();
    assert.equal((await store.getMany(names)).filter((bytes) => bytes !== undefined).length, alive.length);
  });

  it('has only misses, never anything wrong, while long records are evicted', async () => {
    await using small = await MemcachedServer.start(['-m', '8']);
    await using store = createMemcachedStore({ servers: [small.address], ...CHUNKED });
    const random = createRandom(1);
    const lengths = Array.from({ length: 40 }, () => 65_000 + random.below(500_000));
    let hits = 0;
    let misses = 0;
    for (let round = 0; round < 6; round++) {
      for (const [at, length] of lengths.entries()) {
        const outcome = await store.put(`long/${at}`, sealedRecord(`long/${at}`, length));
        assert.ok(outcome === 'stored' || outcome === 'full', outcome);
        const asked = random.below(lengths.length);
        const bytes = await store.get(`long/${asked}`);
        if (bytes === undefined) misses++;
        else {
          hits++;
          assert.equal(judge(`long/${asked}`, lengths[asked] as number, bytes), 'right');
        }
      }
    }
    assert.ok(hits > 10 && misses > 10, `${hits} hits, ${misses} misses`);
  });

  it('takes a chunk that is missing, or another’s, for a miss', async () => {
    let made = 0;
    const newGeneration = () => Buffer.alloc(16, ++made);
    await using store = createMemcachedStore({ servers: [server.address], ...CHUNKED, newGeneration });
    await using raw = rawItems(server);
    for (const name of ['one', 'two']) await store.put(name, sealedRecord(name, 300_000));
    const chunk = (generation: number, place: number) =>
      `inferkv:c:${Buffer.alloc(16, generation).toString('base64url')}:${place}`;
    assert.equal(judge('one', 300_000, (await store.get('one')) as Uint8Array), 'right');

    const foreign = await raw.get(chunk(2, 1));
    const own = await raw.get(chunk(1, 1));
    await raw.set(chunk(1, 1), foreign.value, foreign.flags);
    assert.equal(await store.get('one'), undefined, 'of another generation');
    await raw.set(chunk(1, 1), (await raw.get(chunk(1, 2))).value, own.flags);
    assert.equal(await store.get('one'), undefined, 'of another place');
    await raw.set(chunk(1, 1), own.value.subarray(1), own.flags);
    assert.equal(await store.get('one'), undefined, 'shorter');
    await raw.set(chunk(1, 1), own.value, 0);
    assert.equal(await store.get('one'), undefined, 'nobody’s');
    await raw.set(chunk(1, 1), own.value, own.flags);
    assert.equal(judge('one', 300_000, (await store.get('one')) as Uint8Array), 'right');
    await raw.delete(chunk(1, 4));
    assert.equal(await store.get('one'), undefined, 'gone');
    assert.equal(judge('two', 300_000, (await store.get('two')) as Uint8Array), 'right');
  });

  it('never joins what it read before a cut with what comes after', async () => {
    await using proxy = await CutProxy.start(server.port);
    await using store = createMemcachedStore({ servers: [proxy.address], ...CHUNKED });
    const names = Array.from({ length: 8 }, (_, at) => `cut/${at}`);
    for (const [at, name] of names.entries()) await store.put(name, sealedRecord(name, 20_000 * (at + 1)));
    const random = createRandom(2);
    let failed = 0;
    for (let round = 0; round < 150; round++) {
      proxy.cutAfterBytes = 1 + random.below(200_000);
      const read = await Promise.allSettled(names.map((name) => store.get(name)));
      for (const [at, outcome] of read.entries()) {
        if (outcome.status === 'rejected') failed++;
        else if (outcome.value !== undefined) {
          assert.equal(judge(names[at] as string, 20_000 * (at + 1), outcome.value), 'right');
        }
      }
    }
    assert.ok(failed > 100, `${failed} reads were cut`);
    proxy.cutAfterBytes = Number.POSITIVE_INFINITY;
    for (const [at, name] of names.entries()) {
      assert.equal(judge(name, 20_000 * (at + 1), (await store.get(name)) as Uint8Array), 'right');
    }
  });

  it('believes no garbage, and no answer to another question', async () => {
    const random = createRandom(3);
    const garbage: Buffer[] = [
      Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
      Buffer.from('ERROR\r\n'.repeat(10)),
      ...Array.from({ length: 60 }, () => {
        const bytes = Buffer.from(Array.from({ length: 24 + random.below(100) }, () => random.below(256)));
        // As far as possible like an answer.
        bytes[0] = 0x81;
        if (random.below(2) === 0) bytes.fill(0, 1, 12);
        return bytes;
      }),
    ];
    let next = 0;
    const liar = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', () => socket.end(garbage[next] as Buffer));
    }).listen(0, '127.0.0.1');
    await using _closed = await listening(liar);
    await using store = createMemcachedStore({ servers: [`127.0.0.1:${(liar.address() as AddressInfo).port}`] });
    for (next = 0; next < garbage.length; next++) {
      await rejects(store.get('a'), FAILED);
      await rejects((store.epochs as EpochAuthority).read(['a']), FAILED);
    }
  });

  it('serves none of 10,000 records with a flipped bit', async () => {
    await using store = createMemcachedStore({
      servers: [server.address],
      maxItemBytes: 2048,
      newGeneration: counting(),
    });
    await using raw = rawItems(server);
    // Short ones lie in one item; long ones under a manifest, in three chunks.
    const names = Array.from({ length: 200 }, (_, at) => `flip/${at}`);
    const lengthOf = (at: number): number => (at % 2 === 0 ? 500 : 4000);
    for (const [at, name] of names.entries()) await store.put(name, sealedRecord(name, lengthOf(at)));
    const keys = names.flatMap((name, at) => {
      const generation = Buffer.alloc(16);
      generation.writeUInt32LE((at + 1) / 2);
      const chunks = [0, 1, 2].map((place) => `inferkv:c:${generation.toString('base64url')}:${place}`);
      return at % 2 === 0
        ? [{ at, key: `inferkv:r:${name}` }]
        : [`inferkv:r:${name}`, ...chunks].map((key) => ({ at, key }));
    });
    const random = createRandom(4);
    const seen = new Map<string, number>();
    for (let left = 10_000; left > 0;) {
      // One flip a name at a time.
      const flipped = [...Map.groupBy(keys, ({ at }) => at).values()].map(
        (of) => of[random.below(of.length)] as (typeof keys)[0],
      );
      left -= flipped.length;
      const whole = await Promise.all(flipped.map(({ key }) => raw.get(key)));
      await Promise.all(
        whole.map(({ value, flags }, at) => {
          const bad = Uint8Array.from(value);
          const bit = random.below(8 * bad.length);
          bad[bit >> 3] = (bad[bit >> 3] as number) ^ (1 << (bit & 7));
          return raw.set((flipped[at] as { key: string }).key, bad, flags);
        }),
      );
      for (const [at, bytes] of (await store.getMany(names)).entries()) {
        const fault = bytes === undefined ? 'miss' : judge(names[at] as string, lengthOf(at), bytes);
        seen.set(fault, (seen.get(fault) ?? 0) + 1);
      }
      await Promise.all(
        whole.map(({ value, flags }, at) => raw.set((flipped[at] as { key: string }).key, value, flags)),
      );
    }
    const report = JSON.stringify([...seen]);
    assert.equal(seen.get('wrong') ?? 0, 0, report);
    assert.equal(seen.get('right') ?? 0, 0, report);
    assert.ok((seen.get('checksum') ?? 0) > 5000 && (seen.get('miss') ?? 0) > 100, report);
    for (const [at, bytes] of (await store.getMany(names)).entries()) {
      assert.equal(judge(names[at] as string, lengthOf(at), bytes as Uint8Array), 'right');
    }
  });

  it('never gives a number twice, though its counters are forgotten', async () => {
    await using own = await MemcachedServer.start();
    // Standing still is the worst that a clock does, short of going back.
    await using store = createMemcachedStore({ servers: [own.address], wallClock: () => 1_800_000_000_000 });
    const epochs = store.epochs as EpochAuthority;
    const grants = store.grants as GrantAuthority;
    const given: number[] = [];
    const tokens: number[] = [];
    for (let round = 0; round < 4; round++) {
      given.push((await epochs.read(['model:a']))[0] as number);
      for (let bumps = 0; bumps < 3; bumps++) given.push((await epochs.bump(['model:a']))[0] as number);
      tokens.push((await grants.acquire('work', 60_000)) as number);
      await own.kill();
      await own.restart();
    }
    for (const numbers of [given, tokens]) {
      assert.deepEqual(
        numbers,
        numbers.toSorted((a, b) => a - b),
      );
      assert.equal(new Set(numbers).size, numbers.length);
    }
  });

  it('keeps the record of the greatest token, in whatever order they come', async () => {
    await using store = createMemcachedStore({ servers: [server.address], maxItemBytes: 4096 });
    const tokens = [3, 9, 1, 7, 8, 2, 6, 4, 5];
    const put = (token: number): Promise<unknown> => {
      const head = Buffer.alloc(56);
      head.writeBigUInt64BE(BigInt(token), 48);
      return store.put('fenced', [head, new Uint8Array(token * 700).fill(token)], { token });
    };
    const outcomes = await Promise.all(tokens.map(put));
    assert.equal(outcomes[1], 'stored');
    assert.equal((await store.get('fenced'))?.at(-1), 9);
    assert.equal(await put(8), 'superseded');
  });

  it('lets in who has the password, and tells the others', async (test) => {
    using folder = new TempFolder();
    const script = join(import.meta.dirname, '..', 'support', 'sasl_password.py');
    const made = spawnSync('python3', [script, folder.path, 'cache', 'inferkv', 'the password'], { encoding: 'utf8' });
    if (made.status !== 0) return test.skip('there is no python3 with libsasl2 to make a password file with');
    await using own = await MemcachedServer.start(['-S'], { SASL_CONF_PATH: folder.path });
    const open = (password: string): Store =>
      createMemcachedStore({ servers: [own.address], sasl: { username: 'cache@inferkv', password } });
    await using store = open('the password');
    await using wrong = open('another');
    await using nobody = createMemcachedStore({ servers: [own.address] });
    assert.equal(await store.put('a', [Uint8Array.of(1)]), 'stored');
    assert.deepEqual([...((await store.get('a')) ?? [])], [1]);
    await rejects(wrong.get('a'), FAILED, /does not let this user in/);
    await rejects(nobody.get('a'), FAILED, /sasl/);
  });
});

interface RawItems extends AsyncDisposable {
  get(key: string): Promise<Response>;
  set(key: string, value: Uint8Array, flags: number): Promise<Response>;
  delete(key: string): Promise<Response>;
}

/** The items of a server, as nobody should touch them. */
function rawItems(server: MemcachedServer): RawItems {
  const connection = new Connection({
    host: '127.0.0.1',
    port: server.port,
    silenceMs: 10_000,
    maxPending: 1000,
    maxUnsentBytes: 2 ** 26,
    maxBodyBytes: 2 ** 21,
    clock: systemClock,
  });
  const ask = async (request: Parameters<Connection['send']>[0][0]): Promise<Response> => {
    const [answer] = await Promise.all(connection.send([request]));
    assert.equal(answer?.status, 0, request.key);
    return answer;
  };
  return {
    get: (key) => ask({ opcode: OPCODE.get, key }),
    set: (key, value, flags) => ask({ opcode: OPCODE.set, key, extras: storeExtras(flags, 0), value: [value] }),
    delete: (key) => ask({ opcode: OPCODE.delete, key }),
    [Symbol.asyncDispose]: async () => connection.close(),
  };
}

function counting(): () => Uint8Array {
  let made = 0;
  return () => {
    const generation = Buffer.alloc(16);
    generation.writeUInt32LE(++made);
    return generation;
  };
}

async function listening(server: Server): Promise<AsyncDisposable> {
  await once(server, 'listening');
  return {
    [Symbol.asyncDispose]: async () => {
      server.close();
      await once(server, 'close');
    },
  };
}
