import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';

import { isInferkvError } from '../base/errors.ts';
import { createRandom, type Random } from '../base/random.ts';
import type { EpochAuthority, GrantAuthority, Store } from './store.ts';

/** What the suite needs of an implementation. */
export interface StoreUnderTest {
  /** A store with nothing in it that holds at least 64 MB. */
  open(): Promise<Store>;
  /** The same records in another store object, as another process has them; left out where no other can. */
  openAgain?: (() => Promise<Store>) | undefined;
  /** The longest record to try, in bytes; 4 MiB, or what the store can take, if left out. */
  readonly maxRecordBytes?: number;
  /** The shortest time to live that the store can tell apart, in milliseconds; 50 if left out. */
  readonly ttlMs?: number;
  /** Whether it keeps epochs. */
  readonly keepsEpochs: boolean;
  /** Whether it grants rights. */
  readonly grantsRights: boolean;
}

const LARGE = 4 * 2 ** 20;
const PATIENCE_MS = 15_000;

/** Tests of the contract of `Store`, to be run by `node --test` or any file that it runs. */
export function testStore(name: string, under: StoreUnderTest): void {
  describe(`store contract: ${name}`, () => {
    let store: Store;
    before(async () => {
      store = await under.open();
    });
    after(() => store.close());

    testRecords(() => store, under);
    testMany(() => store);
    testWrites(() => store, under);
    testBorders(() => store, under);
    if (under.keepsEpochs) testEpochs(() => store.epochs as EpochAuthority, under);
    if (under.grantsRights) testGrants(() => store.grants as GrantAuthority, under);
  });
}

type Current = () => Store;

function testRecords(store: Current, { maxRecordBytes }: StoreUnderTest): void {
  it('gives back byte for byte what was put, of any length, in any number of parts', async () => {
    const random = createRandom(1);
    const max = Math.min(maxRecordBytes ?? LARGE, store().traits.maxRecordBytes);
    for (const length of [0, 1, 63, 64, 1000, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 100_001, 1_100_000, max]) {
      if (length > max) continue;
      const bytes = randomBytes(random, length);
      const cut = Math.floor(length / 3);
      assert.equal(await store().put(`length/${length}`, [bytes.subarray(0, cut), bytes.subarray(cut)]), 'stored');
      assertBytes(await store().get(`length/${length}`), bytes);
    }
  });

  it('keeps bytes that are no text, and names that are nearly equal, apart', async () => {
    const everyByte = Uint8Array.from({ length: 256 }, (_, each) => each);
    const names = [
      'a',
      'A',
      'a/',
      'a:b',
      'a/b',
      '%41',
      '..',
      '{a}',
      '*',
      'x'.repeat(200),
      `${'x'.repeat(199)}y`,
      '~!@#$^&()',
    ];
    for (const [at, name] of names.entries()) await store().put(name, [everyByte, Uint8Array.of(at)]);
    for (const [at, name] of names.entries()) {
      assertBytes(await store().get(name), Uint8Array.from([...everyByte, at]));
    }
  });

  it('knows nothing of names that were never put', async () => {
    assert.equal(await store().get('never'), undefined);
    assert.equal(await store().delete('never'), false);
  });

  it('reads into the memory it is given, or into memory of its own', async () => {
    const bytes = randomBytes(createRandom(2), 70_000);
    await store().put('into', [bytes]);
    const given: Uint8Array[] = [];
    const read = await store().get('into', {
      allocate: (lengthBytes) => {
        const memory = new Uint8Array(lengthBytes);
        given.push(memory);
        return memory;
      },
    });
    assertBytes(read, bytes);
    if (given.length > 0) assert.equal(read?.buffer, given.at(-1)?.buffer);
  });

  it('gives memory that is the caller’s own', async () => {
    const bytes = randomBytes(createRandom(3), 3000);
    await store().put('own', [bytes]);
    (await store().get('own'))?.fill(0);
    assertBytes(await store().get('own'), bytes);
  });
}

function testMany(store: Current): void {
  it('reads many in the order of their names, with gaps, and the same one twice', async () => {
    const random = createRandom(4);
    const records = Array.from({ length: 40 }, (_, at) => randomBytes(random, at % 3 === 0 ? 60_000 : 100));
    for (const [at, bytes] of records.entries()) if (at % 4 !== 1) await store().put(`many/${at}`, [bytes]);
    const names = records.map((_, at) => `many/${at}`);
    const read = await store().getMany([...names, 'many/0']);
    assert.equal(read.length, records.length + 1);
    for (const [at, bytes] of records.entries()) {
      if (at % 4 === 1) assert.equal(read[at], undefined);
      else assertBytes(read[at], bytes);
    }
    assertBytes(read[records.length], records[0] as Uint8Array);
    assert.deepEqual(await store().getMany([]), []);
  });

  it('never mixes up answers of calls that run at the same time', async () => {
    const random = createRandom(5);
    const records = Array.from({ length: 64 }, (_, at) => randomBytes(random, 500 + 997 * at));
    await Promise.all(records.map((bytes, at) => store().put(`crowd/${at}`, [bytes])));
    const read = await Promise.all([...records, ...records].map((_, at) => store().get(`crowd/${at % 64}`)));
    for (const [at, bytes] of read.entries()) assertBytes(bytes, records[at % 64] as Uint8Array);
  });
}

function testWrites(store: Current, { ttlMs = 50 }: StoreUnderTest): void {
  it('overwrites with what was put last, longer or shorter', async () => {
    const random = createRandom(6);
    for (const length of [10, 90_000, 5, 20_000, 0]) {
      const bytes = randomBytes(random, length);
      await store().put('over', [bytes]);
      assertBytes(await store().get('over'), bytes);
    }
  });

  it('never shows a mixture of two writes to who reads meanwhile', async () => {
    const length = 200_000;
    const writes = [1, 2, 3, 4, 5, 6, 7, 8];
    await store().put('race', [new Uint8Array(length).fill(9)]);
    const reads = Array.from({ length: 24 }, async () => {
      const read = await store().get('race');
      if (read === undefined) return;
      assert.equal(read.length, length);
      assert.equal(
        read.every((each) => each === read[0]),
        true,
        'bytes of two writes',
      );
    });
    await Promise.all([...writes.map((byte) => store().put('race', [new Uint8Array(length).fill(byte)])), ...reads]);
  });

  it('deletes, once', async () => {
    await store().put('gone', [new Uint8Array(50_000)]);
    assert.equal(await store().delete('gone'), true);
    assert.equal(await store().get('gone'), undefined);
    assert.equal(await store().delete('gone'), false);
  });

  it('forgets after the time to live, and not what was put again without one', async () => {
    await store().put('short', [Uint8Array.of(1)], { ttlMs });
    await store().put('again', [Uint8Array.of(1)], { ttlMs });
    await store().put('again', [Uint8Array.of(2)]);
    await until(async () => (await store().get('short')) === undefined);
    assertBytes(await store().get('again'), Uint8Array.of(2));
  });

  it('does not overwrite what carries a greater token', async () => {
    assert.equal(await store().put('fenced', fenced(7, 30_000), { token: 7 }), 'stored');
    assert.equal(await store().put('fenced', fenced(6, 100), { token: 6 }), 'superseded');
    assertBytes(await store().get('fenced'), Buffer.concat(fenced(7, 30_000)));
    assert.equal(await store().put('fenced', fenced(7, 10), { token: 7 }), 'stored');
    assert.equal(await store().put('fenced', fenced(300, 20), { token: 300 }), 'stored');
    assert.equal(await store().put('fenced', fenced(299, 20), { token: 299 }), 'superseded');
    assertBytes(await store().get('fenced'), Buffer.concat(fenced(300, 20)));
  });

  it('refuses what is too large, and keeps what it has', async () => {
    const { maxRecordBytes } = store().traits;
    if (maxRecordBytes > 256 * 2 ** 20) return;
    await store().put('small', [Uint8Array.of(1)]);
    const outcome = await store().put('huge', [new Uint8Array(maxRecordBytes + 1)]);
    assert.equal(outcome, 'too-large');
    assert.equal(await store().get('huge'), undefined);
    assertBytes(await store().get('small'), Uint8Array.of(1));
  });
}

function testEpochs(authority: () => EpochAuthority, { openAgain }: StoreUnderTest): void {
  it('raises epochs, each by itself, and never gives a number twice', async () => {
    const [first, other] = await authority().read(['model:a', 'model:b']);
    const [raised] = await authority().bump(['model:a']);
    assert.ok(Number.isSafeInteger(raised) && (raised as number) > (first as number) && (first as number) > 0);
    assert.deepEqual(await authority().read(['model:b', 'model:a']), [other, raised]);
    const many = await Promise.all(Array.from({ length: 20 }, () => authority().bump(['model:a', 'model:c'])));
    assert.equal(new Set(many.map(([epoch]) => epoch)).size, 20);
    assert.equal(Math.max(...many.map(([epoch]) => epoch as number)), (await authority().read(['model:a']))[0]);
  });

  if (openAgain === undefined) return;
  it('shows others the same epochs, and tells who listens, if it can', async () => {
    await using again = await openAgain();
    const [raised] = await authority().bump(['tenant:x']);
    assert.deepEqual(await again.epochs?.read(['tenant:x']), [raised]);
    if (again.epochs?.subscribe === undefined) return;
    const told: (readonly [string, number])[] = [];
    const ready = Promise.withResolvers<void>();
    const end = again.epochs.subscribe({
      bumped: (scope, epoch) => void told.push([scope, epoch]),
      inStep: () => ready.resolve(),
      lost: () => undefined,
    });
    await ready.promise;
    const [next] = await authority().bump(['tenant:x']);
    await until(async () => told.some(([scope, epoch]) => scope === 'tenant:x' && epoch === next));
    await end();
  });
}

function testGrants(authority: () => GrantAuthority, { openAgain, ttlMs = 50 }: StoreUnderTest): void {
  it('grants the right to one at a time, with tokens that grow', async () => {
    const asked = await Promise.all(Array.from({ length: 10 }, () => authority().acquire('work', 60_000)));
    const [token, ...others] = asked.filter((each) => each !== undefined);
    assert.ok(token !== undefined && token > 0 && others.length === 0, 'one of ten gets it');
    await authority().release('work', token - 1);
    assert.equal(await authority().acquire('work', 60_000), undefined, 'a foreign token gives nothing back');
    assert.equal(await authority().renew('work', token, 60_000), true);
    await authority().release('work', token);
    assert.equal(await authority().renew('work', token, 60_000), false);
    const next = await authority().acquire('work', 60_000);
    assert.ok(next !== undefined && next > token);
    await authority().release('work', next);
  });

  it('takes the right back when its time is over, from whoever had it', async () => {
    await using other = await openAgain?.();
    const token = await (other?.grants ?? authority()).acquire('dead', ttlMs);
    assert.ok(token !== undefined);
    let next: number | undefined;
    await until(async () => {
      next = await authority().acquire('dead', 60_000);
      return next !== undefined;
    });
    assert.ok((next as number) > token);
    assert.equal(await authority().renew('dead', token, ttlMs), false);
  });
}

function testBorders(store: Current, under: StoreUnderTest): void {
  const { openAgain } = under;
  it('ends a call whose signal ends', async () => {
    await assert.rejects(store().get('late', { signal: AbortSignal.abort() }), (error) => isInferkvError(error));
    await assert.rejects(store().put('late', [new Uint8Array(1)], { signal: AbortSignal.abort() }), (error) =>
      isInferkvError(error),
    );
    assert.equal(await store().get('late'), undefined);
  });

  it('has what it is said to have', () => {
    assert.equal(store().epochs !== undefined, under.keepsEpochs);
    assert.equal(store().grants !== undefined, under.grantsRights);
    assert.ok(store().traits.maxRecordBytes > 0);
  });

  it('is closed once, and says so afterwards', async () => {
    const own = openAgain === undefined ? await under.open() : await openAgain();
    await own.close();
    await own.close();
    await assert.rejects(own.get('x'), (error) => isInferkvError(error, 'ERR_INFERKV_CLOSED'));
    await assert.rejects(own.put('x', []), (error) => isInferkvError(error, 'ERR_INFERKV_CLOSED'));
  });

  if (openAgain === undefined) return;
  it('shows others what was put, and what was deleted', async () => {
    await using again = await openAgain();
    const bytes = randomBytes(createRandom(8), 40_000);
    await store().put('seen', [bytes]);
    assertBytes(await again.get('seen'), bytes);
    await again.delete('seen');
    assert.equal(await store().get('seen'), undefined);
  });
}

/** A record in the form in which stores compare tokens. */
function fenced(token: number, length: number): readonly Uint8Array[] {
  return [tokenHead(token), new Uint8Array(length).fill(token)];
}

/** The first 56 bytes of what a store takes for a record with that token. */
function tokenHead(token: number): Uint8Array {
  const head = new Uint8Array(56);
  new DataView(head.buffer).setBigUint64(48, BigInt(token), false);
  return head;
}

function randomBytes(random: Random, length: number): Uint8Array {
  return Uint8Array.from({ length }, () => random.below(256));
}

function assertBytes(read: Uint8Array | undefined, expected: Uint8Array): void {
  assert.ok(read !== undefined, 'there is no record');
  assert.equal(Buffer.compare(read, expected), 0, `other bytes: ${read.length} of ${expected.length}`);
}

/** Asks again and again; what is waited for is another process's clock. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, `did not come about within ${PATIENCE_MS} ms`);
    await pause(5);
  }
}
