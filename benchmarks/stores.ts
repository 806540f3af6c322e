/** The five stores side by side, and each against what is under it: a bare file, a bare client. */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';

import { Redis } from 'ioredis';

import { createInferenceCache, tensor, type InferenceCacheOptions, type Session } from '../src/index.ts';
import { createDiskStore } from '../src/stores/disk/index.ts';
import { measureStore } from '../src/stores/comparison.ts';
import { openRecord, sealRecord } from '../src/stores/record.ts';
import { createRedisStore } from '../src/stores/redis/index.ts';
import { SharedMemoryRecords } from '../src/stores/shared-memory/record-store.ts';
import type { Store } from '../src/stores/store.ts';
import { createPolicy } from '../src/policies/registry.ts';
import { CountingSession } from '../test/support/counting-session.ts';
import { MapStore } from '../test/support/map-store.ts';
import { RedisServer } from '../test/support/redis-server.ts';
import { STORES } from '../test/support/servers.ts';
import { inTurns, median, timed, type Figures, type Suite, type SuiteOptions } from './suite.ts';

const SIZES = [1024, 64 * 1024, 1024 * 1024];
const DEPTHS = [1, 16];
const SIZE_NAMES: Readonly<Record<number, string>> = { 1024: '1kb', 65_536: '64kb', 1_048_576: '1mb' };
const BLOCKS = 32;

export const stores: Suite = {
  name: 'stores',
  summary:
    'memory, disk, Redis, Memcached and DynamoDB (an emulator): get and put of 1 KB, 64 KB and 1 MB, one and 16 at a time',
  async run({ quick, progress }: SuiteOptions): Promise<Figures> {
    const figures: Record<string, number> = {};
    // Servers that are to go with this process do not keep it alive, not even while they are waited for.
    const alive = setInterval(() => undefined, 1000);
    for (const kind of ['memory', 'disk', 'redis', 'memcached', 'dynamodb']) {
      progress(kind);
      Object.assign(figures, await measureKind(kind, quick ? 60 : 1000));
    }
    progress('disk against a bare file');
    Object.assign(figures, await diskOverLimit(quick ? 20 : 300));
    progress('Redis against a bare client');
    Object.assign(figures, await redisOverBare(quick ? 20 : 300));
    progress('memory hits, four tiers against one');
    Object.assign(figures, await fourTiersOverOne(quick ? 3 : 15));
    clearInterval(alive);
    return figures;
  },
};

async function measureKind(kind: string, durationMs: number): Promise<Figures> {
  const running = await (kind === 'memory' ? undefined : STORES[kind]?.());
  const store: Store = running?.open() ?? memoryStore();
  const figures: Record<string, number> = {};
  try {
    for (const each of await measureStore(store, { sizes: SIZES, depths: DEPTHS, durationMs })) {
      const name = `${kind}.${each.op}.${SIZE_NAMES[each.sizeBytes]}.${each.depth === 1 ? '' : `depth${each.depth}_`}`;
      figures[`${name}ops_per_s`] = each.opsPerSecond;
      figures[`${name}mb_per_s`] = each.bytesPerSecond / 1e6;
      figures[`${name}p50_ms`] = each.p50Ms;
      figures[`${name}p99_ms`] = each.p99Ms;
    }
  } finally {
    await store.close();
    await running?.stop();
  }
  return figures;
}

function memoryStore(): Store {
  return new SharedMemoryRecords({
    budgetBytes: 256 * 2 ** 20,
    policy: (facts) => createPolicy('lru', { ...facts, parent: () => -1, now: () => 0, random: () => 0 }),
  });
}

/** A record of 1 MB, read and checked, against the same bytes read by one pread and checked by one CRC-32; both into memory that is there already. */
async function diskOverLimit(rounds: number): Promise<Figures> {
  const folder = await mkdtemp(join(tmpdir(), 'inferkv-bench-'));
  const store = createDiskStore({ folder: join(folder, 'store'), budgetBytes: 512e6 });
  const payload = Uint8Array.from({ length: 2 ** 20 }, (_, at) => (at * 7) & 255);
  const digest = new Uint8Array(32).fill(1);
  const facts = {
    partition: 'results',
    digest,
    tenant: '',
    tags: [],
    metadata: new Uint8Array(0),
    costMs: 1,
    token: 0,
  };
  const parts = sealRecord({ ...facts, payload, expiresAtMs: Number.POSITIVE_INFINITY, madeAtMs: 0 });
  try {
    await store.put('one', parts);
    const file = await open(join(folder, 'bare'), 'w+');
    const lengthBytes = parts[0].length + payload.length;
    await file.writev([...parts], 0);
    const memory = [new Uint8Array(lengthBytes), new Uint8Array(lengthBytes)] as const;
    const read = async (): Promise<void> => {
      const bytes = await store.get('one', { allocate: () => memory[0] });
      const opened = openRecord(bytes ?? new Uint8Array(0), { partition: 'results', digest, nowMs: 0 });
      if (typeof opened === 'string') throw new Error(opened);
    };
    const limit = async (): Promise<void> => {
      await file.read(memory[1], 0, lengthBytes, 0);
      crc32(memory[1]);
    };
    const times = await inTurns(rounds, { store: read, bare: limit });
    await file.close();
    return {
      'disk.get_checked.1mb.p50_ms': median(times.store),
      'bare_file.get_checked.1mb.p50_ms': median(times.bare),
      disk_get_1mb_over_limit: median(times.store) / median(times.bare),
    };
  } finally {
    await store.close();
    await rm(folder, { recursive: true, force: true });
  }
}

/** A record of 64 KB by the store against the client alone; 32 of them in one call against one after the other. */
async function redisOverBare(rounds: number): Promise<Figures> {
  const server = await RedisServer.start();
  const store = createRedisStore({ port: server.port, keyPrefix: 'bench:' });
  const bare = new Redis({ port: server.port, host: '127.0.0.1' });
  try {
    const names = Array.from({ length: BLOCKS }, (_, at) => `block/${at}`);
    const block = Uint8Array.from({ length: 64 * 1024 }, (_, at) => at & 255);
    for (const name of names) await store.put(name, [block]);
    const each = async (get: (name: string) => Promise<unknown>): Promise<void> => {
      for (const name of names) await get(name);
    };
    const times = await inTurns(rounds, {
      store: () => each((name) => store.get(name)),
      bare: () => each((name) => bare.getBuffer(`bench:${name}`)),
      batch: () => store.getMany(names),
    });
    return {
      redis_get_64kb_over_bare: median(times.store) / median(times.bare),
      redis_batch_gain: median(times.store) / median(times.batch),
      'redis.get_32_blocks.64kb.one_by_one_ms': median(times.store),
      'redis.get_32_blocks.64kb.batch_ms': median(times.batch),
    };
  } finally {
    bare.disconnect();
    await store.close();
    await server[Symbol.asyncDispose]();
  }
}

/** Hits in memory, of caches with one tier below them and with four: what lies below is not touched, and may cost nothing. */
async function fourTiersOverOne(rounds: number): Promise<Figures> {
  const [one, four] = [await hitsOver(1), await hitsOver(4)];
  await timed(one.run);
  await timed(four.run);
  const times = await inTurns(rounds, { one: one.run, four: four.run });
  await one.close();
  await four.close();
  return {
    memory_hit_one_tier_us: (median(times.one) * 1000) / 6400,
    memory_hit_four_tiers_us: (median(times.four) * 1000) / 6400,
    memory_hit_four_tiers_over_one: median(times.four) / median(times.one),
  };
}

interface Hits {
  readonly run: () => Promise<void>;
  readonly close: () => Promise<void>;
}

async function hitsOver(tiers: number): Promise<Hits> {
  const names = Array.from({ length: tiers }, (_, at) => `tier${at}`);
  const options: InferenceCacheOptions = {
    tiers: Object.fromEntries(names.map((name) => [name, { store: new MapStore(name) }])),
  };
  const cache = createInferenceCache(options);
  const session: Session = new CountingSession(64);
  const model = await cache.wrap(session, { artifact: { digest: 'four tiers' } });
  const inputs = Array.from({ length: 64 }, (_, at) => ({ x: tensor(Float32Array.of(at), [1]) }));
  for (const input of inputs) await model.run(input);
  const run = async (): Promise<void> => {
    for (let round = 0; round < 100; round++) for (const input of inputs) await model.run(input);
  };
  return { run, close: () => cache.close() };
}
