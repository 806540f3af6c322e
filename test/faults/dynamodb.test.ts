import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';

import { FakeClock } from '../../src/base/clock.ts';
import { createRandom } from '../../src/base/random.ts';
import { createDynamoDbStore, createDynamoDbTable } from '../../src/stores/dynamodb/index.ts';
import type { EpochAuthority, GrantAuthority } from '../../src/stores/store.ts';
import { Dynalite, storeBehind } from '../support/dynalite.ts';
import { DynamoProxy } from '../support/dynamo-proxy.ts';
import { freePort } from '../support/memcached-server.ts';
import { rejects } from '../support/rejects.ts';
import { judge, sealedRecord } from '../support/sealed-records.ts';

const FAILED = 'ERR_INFERKV_STORE_FAILED';

interface AttributeJson {
  B?: string;
  N?: string;
  S?: string;
}
type ItemJson = Record<string, AttributeJson>;

describe('dynamodb under faults, on dynalite', () => {
  let server: Dynalite;
  before(async () => {
    server = await Dynalite.start();
  });
  after(() => server.kill());

  it('rejects while its server is killed, and goes on when it is back', async () => {
    await using own = await Dynalite.start();
    await using store = createDynamoDbStore(own.options());
    await store.put('a', [Uint8Array.of(1)]);
    const asked = Array.from({ length: 20 }, () => store.get('a').catch((error: unknown) => error));
    await own.kill();
    await Promise.all(asked);
    await rejects(store.get('a'), FAILED, /check endpoint/);
    await rejects(store.put('a', [new Uint8Array(1_000_000)]), FAILED);
    await rejects(store.getMany(['a', 'b']), FAILED);
    await rejects((store.epochs as EpochAuthority).bump(['a']), FAILED);
    await rejects((store.grants as GrantAuthority).acquire('a', 1000), FAILED);
    await own.restart();
    assert.equal(await store.get('a'), undefined);
    assert.equal(await store.put('a', [Uint8Array.of(2)]), 'stored');
    assert.deepEqual([...((await store.get('a')) ?? [])], [2]);
  });

  it('says what to do where nobody listens, where there is no table, and where the SDK knows no region', async () => {
    const port = await freePort();
    await using nobody = createDynamoDbStore(server.options(port));
    await rejects(nobody.get('a'), FAILED, /ECONNREFUSED/);
    await using missing = createDynamoDbStore({ ...server.options(), table: 'missing' });
    await rejects(missing.get('a'), FAILED, /createDynamoDbTable/);
    assert.deepEqual(await createDynamoDbTable({ ...server.options(), table: 'missing' }), {
      isNew: true,
      expires: false,
    });
    assert.deepEqual(await createDynamoDbTable({ ...server.options(), table: 'missing' }), {
      isNew: false,
      expires: false,
    });
    assert.equal(await missing.get('a'), undefined);
  });

  it('asks for a table without capacity to plan, and for its expired items to be deleted', async () => {
    await using proxy = await DynamoProxy.start(server.port);
    const said: Record<string, unknown>[] = [];
    proxy.instead = (operation, body) => {
      if (operation === 'CreateTable' || operation === 'UpdateTimeToLive')
        said.push(JSON.parse(body) as Record<string, unknown>);
      // Dynalite does not know it.
      return operation === 'UpdateTimeToLive' ? { status: 200, body: '{}' } : undefined;
    };
    const made = await createDynamoDbTable({ ...server.options(proxy.port), table: 'made' });
    assert.deepEqual(made, { isNew: true, expires: true });
    assert.equal(said[0]?.['BillingMode'], 'PAY_PER_REQUEST');
    assert.deepEqual(said[1]?.['TimeToLiveSpecification'], { AttributeName: 'expiresAt', Enabled: true });
  });

  it('is bound by the signal and by its own time while its server hangs', async () => {
    await using own = await Dynalite.start();
    const clock = new FakeClock();
    await using store = createDynamoDbStore({ ...own.options(), clock, timeoutMs: 5000 });
    await store.put('a', [Uint8Array.of(1)]);
    await own.kill('SIGSTOP');
    const given = new AbortController();
    const late = store.get('a', { signal: given.signal });
    const silent = store.get('a');
    await turn();
    given.abort();
    await rejects(late, 'ERR_INFERKV_ABORTED');
    clock.advance(5000);
    await rejects(silent, FAILED, /did not answer within 5000 ms/);
    await own.kill('SIGCONT');
    assert.deepEqual([...((await store.get('a')) ?? [])], [1]);
  });

  it('takes a chunk that is missing, or another’s, for a miss, and takes out those of what was overwritten', async () => {
    await using both = await storeBehind(server, { maxItemBytes: 8192 });
    const { proxy, store } = both;
    for (const name of ['one', 'two']) await store.put(name, sealedRecord(name, 30_000));
    const chunks = async (): Promise<ItemJson[]> => {
      const seen: ItemJson[] = [];
      proxy.spoil = (operation, answer) => {
        if (operation === 'BatchGetItem') seen.push(...itemsOf(answer.body));
        return answer;
      };
      await store.getMany(['one', 'two']);
      return seen.filter((item) => item['i'] !== undefined);
    };
    const present = await chunks();
    assert.equal(present.length, 10);
    const spoiling = (change: (items: ItemJson[]) => ItemJson[]): void => {
      proxy.spoil = (operation, answer) => {
        if (operation !== 'BatchGetItem') return answer;
        return { status: 200, body: JSON.stringify({ Responses: { cache: change(itemsOf(answer.body)) } }) };
      };
    };
    const changes: readonly ((items: ItemJson[]) => ItemJson[])[] = [
      (items) => items.filter((item) => item['i']?.N !== '3'),
      (items) =>
        items.map((item) =>
          item['i']?.N === '3' ? { ...item, g: { B: Buffer.alloc(16, 9).toString('base64') } } : item,
        ),
      (items) => items.map((item) => (item['i']?.N === '3' ? { ...item, i: { N: '2' } } : item)),
      (items) => items.map((item) => (item['i']?.N === '3' ? { ...item, d: { B: 'AAAA' } } : item)),
      (items) => items.map((item) => (item['i']?.N === '3' ? { pk: item['pk'] as AttributeJson } : item)),
      () => [],
    ];
    for (const change of changes) {
      spoiling(change);
      assert.equal(await store.get('one'), undefined, String(change));
    }
    spoiling((items) => items.toReversed());
    assert.equal(judge('one', 30_000, (await store.get('one')) as Uint8Array), 'right');

    proxy.spoil = (_, answer) => answer;
    const keys = new Set(present.map((item) => item['pk']?.S as string));
    assert.equal(await chunksLeft(server, keys), 10);
    await store.put('one', sealedRecord('one', 100));
    assert.equal(await chunksLeft(server, keys), 5);
    await store.put('two', sealedRecord('two', 40_000));
    assert.equal(await chunksLeft(server, keys), 0);
    const last = new Set((await chunks()).map((item) => item['pk']?.S as string));
    assert.equal(await chunksLeft(server, last), 6);
    await store.delete('two');
    assert.equal(await chunksLeft(server, last), 0);
  });

  it('believes no garbage', async () => {
    await using both = await storeBehind(server);
    const { proxy, store } = both;
    await store.put('a', sealedRecord('a', 5000));
    await store.put('b', sealedRecord('b', 5000));
    const random = createRandom(4);
    const noise = Array.from({ length: 20 }, () => Buffer.from(Array.from({ length: 50 }, () => random.below(256))));
    const shapes = [
      '',
      '{}',
      'null',
      '[]',
      '{"Item":7}',
      '{"Item":{"pk":{"S":"inferkv:r:a"}}}',
      '{"Responses":{"cache":[{}]}}',
      '<html></html>',
    ];
    const others = ['{"Item":{"pk":{"S":"inferkv:r:b"},"d":{"B":"AAAA"},"n":{"N":"3"},"x":{"N":"9e15"}}}'];
    for (const body of [...noise, ...shapes, ...others]) {
      for (const status of [200, 500]) {
        proxy.instead = () => ({ status, body });
        // Told apart from what is there: it fails, or it is not there.
        for (const asked of [store.get('a'), store.getMany(['a']).then(([first]) => first)]) {
          const got = await asked.catch((error: unknown) => error as Error & { code: string });
          if (got instanceof Error) assert.equal(got.code, FAILED);
          else assert.equal(got, undefined);
        }
        await rejects((store.epochs as EpochAuthority).bump(['a']), FAILED);
      }
    }
    proxy.instead = () => undefined;
    for (let cutAfterBytes = 0; cutAfterBytes < 6000; cutAfterBytes += 400) {
      proxy.spoil = (_, answer) => ({ ...answer, cutAfterBytes });
      await rejects(store.get('a'), FAILED);
    }
    proxy.spoil = (_, answer) => answer;
    assert.equal(judge('a', 5000, (await store.get('a')) as Uint8Array), 'right');
  });

  it('serves none of 10,000 records with a flipped bit', async () => {
    await using both = await storeBehind(server, { maxItemBytes: 4096 });
    const { proxy, store } = both;
    const names = Array.from({ length: 200 }, (_, at) => `flip/${at}`);
    const lengthOf = (at: number): number => (at % 2 === 0 ? 500 : 5000);
    await Promise.all(names.map((name, at) => store.put(name, sealedRecord(name, lengthOf(at)))));
    const random = createRandom(5);
    const seen = new Map<string, number>();
    let flips = 0;
    let round = 0;
    // What the server has is the same all the time: asked for once, spoilt anew each time.
    const kept = new Map<string, string>();
    proxy.instead = (operation, body) => {
      const answer = kept.get(body);
      return operation === 'BatchGetItem' && answer !== undefined ? { status: 200, body: spoilt(answer) } : undefined;
    };
    proxy.saw = (operation, body, answer) => void (operation === 'BatchGetItem' && kept.set(body, String(answer.body)));
    const spoilt = (body: string): string => {
      const parsed = JSON.parse(body) as { Responses: { cache: ItemJson[] } };
      for (const item of parsed.Responses.cache) {
        // Of a long record its manifest, or its first, or its second chunk.
        const part = item['c'] === undefined ? Number(item['i']?.N ?? -1) + 1 : 0;
        if ((item['c'] !== undefined || item['i'] !== undefined) && part !== round % 3) continue;
        flip(item, (bound) => random.below(bound));
        flips++;
      }
      return JSON.stringify(parsed);
    };
    await store.getMany(names);
    for (let served = 0; served < 10_000; served += names.length, round++) {
      for (const [at, bytes] of (await store.getMany(names)).entries()) {
        const fault = bytes === undefined ? 'miss' : judge(names[at] as string, lengthOf(at), bytes);
        seen.set(fault, (seen.get(fault) ?? 0) + 1);
      }
    }
    const report = JSON.stringify([...seen]);
    assert.ok(flips >= 10_000, `${flips} flips`);
    assert.equal(seen.get('wrong') ?? 0, 0, report);
    assert.equal(seen.get('right') ?? 0, 0, report);
    assert.ok((seen.get('checksum') ?? 0) > 1000 && (seen.get('miss') ?? 0) > 1000, report);
  });

  it('keeps the record of the greatest token, in whatever order they come', async () => {
    await using store = createDynamoDbStore({ ...server.options(), maxItemBytes: 4096 });
    const tokens = [3, 9, 1, 7, 8, 2, 6, 4, 5];
    const put = (token: number): Promise<unknown> =>
      store.put('fenced', [...sealedToken(token), new Uint8Array(token * 700).fill(token)], { token });
    const outcomes = await Promise.all(tokens.map(put));
    assert.equal(outcomes[1], 'stored');
    assert.equal((await store.get('fenced'))?.at(-1), 9);
    assert.equal(await put(8), 'superseded');
  });

  it('filters what has expired, which DynamoDB deletes late, and lets nothing stay for ever', async () => {
    let now = 1_800_000_000_000;
    const wallClock = (): number => now;
    await using store = createDynamoDbStore({ ...server.options(), prefix: 'age:', wallClock, maxAgeMs: 60_000 });
    await store.put('short', [Uint8Array.of(1)], { ttlMs: 1000 });
    await store.put('long', [Uint8Array.of(1)]);
    now += 999;
    assert.notEqual(await store.get('short'), undefined);
    now += 1;
    assert.equal(await store.get('short'), undefined);
    assert.deepEqual(await store.getMany(['short']), [undefined]);
    assert.equal(await store.delete('short'), false);
    now += 58_999;
    assert.notEqual(await store.get('long'), undefined);
    now += 1;
    assert.equal(await store.get('long'), undefined);
    // A greater token stands no longer than its record.
    await store.put('fenced', sealedToken(9), { token: 9, ttlMs: 1000 });
    assert.equal(await store.put('fenced', sealedToken(8), { token: 8 }), 'superseded');
    now += 1000;
    assert.equal(await store.put('fenced', sealedToken(8), { token: 8 }), 'stored');
  });

  it('never gives a number twice, though its table is made anew', async () => {
    await using own = await Dynalite.start();
    // Standing still is the worst that a clock does, short of going back.
    await using store = createDynamoDbStore({ ...own.options(), wallClock: () => 1_800_000_000_000 });
    const given: number[] = [];
    const tokens: number[] = [];
    for (let round = 0; round < 2; round++) {
      given.push((await store.epochs?.read(['model:a']))?.[0] as number);
      for (let bumps = 0; bumps < 3; bumps++) given.push((await store.epochs?.bump(['model:a']))?.[0] as number);
      tokens.push((await store.grants?.acquire('work', 60_000)) as number);
      if (round === 1) break;
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
});

/** How many of these items the server has. */
async function chunksLeft(server: Dynalite, keys: ReadonlySet<string>): Promise<number> {
  const sdk = await import('@aws-sdk/client-dynamodb');
  const { region, endpoint, sdkOptions } = server.options();
  const client = new sdk.DynamoDBClient({ region: region as string, endpoint: endpoint as string, ...sdkOptions });
  const Keys = [...keys].map((key) => ({ pk: { S: key } }));
  const { Responses } = await client.send(new sdk.BatchGetItemCommand({ RequestItems: { cache: { Keys } } }));
  client.destroy();
  return Responses?.['cache']?.length ?? 0;
}

function itemsOf(body: string | Buffer): ItemJson[] {
  return (JSON.parse(String(body)) as { Responses: { cache: ItemJson[] } }).Responses.cache;
}

/** Flips a bit of what an item holds, or spoils a number. */
function flip(item: ItemJson, below: (bound: number) => number): void {
  const names = ['d', 'g', 'n', 'c', 'i'].filter((name) => item[name] !== undefined);
  const name = names[below(names.length)] as string;
  const attribute = item[name] as AttributeJson;
  if (attribute.B === undefined) {
    // A digit is four bits; one of them is flipped.
    const text = String(attribute.N);
    const at = below(text.length);
    const digit = (Number(text[at]) ^ (1 << below(3))) % 10;
    attribute.N = text.slice(0, at) + String(digit) + text.slice(at + 1);
    return;
  }
  const bytes = Buffer.from(attribute.B, 'base64');
  const bit = below(8 * bytes.length);
  bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
  attribute.B = bytes.toString('base64');
}

function sealedToken(token: number): readonly Uint8Array[] {
  const head = Buffer.alloc(56);
  head.writeBigUInt64BE(BigInt(token), 48);
  return [head];
}
