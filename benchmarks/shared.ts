/** Shared memory: what a lease costs beside a writer, how it scales, that nothing is ever torn, and what the allocator loses. */
import { createRandom } from '../src/base/random.ts';
import { SharedMemoryStore } from '../src/stores/shared-memory/store.ts';
import { digestOf, fillPattern, policyOf, seedBytes } from '../test/support/shared-memory.ts';
import { BenchThread, type Measured } from './shared/messages.ts';
import { startRedis } from './shared/redis.ts';
import { measureWaste } from './shared/waste.ts';
import { median, percentile, timed, type Figures, type Suite, type SuiteOptions } from './suite.ts';

const MIB = 2 ** 20;
const VALUE_BYTES = MIB;
/** Entries that the readers lease. */
const KEYS = 64;
/** Keys that the writer writes beside them, more than there is room for. */
const PASSING = 256;
const BUDGET_BYTES = 192 * MIB;

export const shared: Suite = {
  name: 'shared',
  summary: 'shared memory: a lease of 1 MiB beside a writer, two threads over one, Redis, torn reads, lost bytes',
  run,
};

async function run({ quick, progress }: SuiteOptions): Promise<Figures> {
  const latency = await measureLeases(quick, progress);
  const redis = await measureRedis(quick, progress);
  const torn = await measureTornReads(quick, progress);
  progress('bytes lost by the allocator');
  const waste = measureWaste(quick ? 3000 : 50_000);
  return {
    ...latency,
    ...(redis !== undefined && {
      redis_get_per_s: redis,
      lease_over_redis: (latency['lease_per_s'] as number) / redis,
    }),
    ...torn,
    allocator_waste: waste.mean,
    allocator_waste_max: waste.max,
    allocator_displaced_share: waste.displacements / waste.evictions,
  };
}

/** The times of single leases while the owner writes, then throughput of one thread and of two while it does not. */
async function measureLeases(quick: boolean, progress: SuiteOptions['progress']): Promise<Figures> {
  using store = SharedMemoryStore.create({ budgetBytes: BUDGET_BYTES, policy: policyOf('lru') });
  const value = new Uint8Array(VALUE_BYTES);
  // The owner holds them, too: on a busy machine a reader may be away for so long that they would be evicted.
  using held = new DisposableStack();
  for (let key = 0; key < KEYS; key++) {
    store.put(digestOf(key), value, { costMs: 1 });
    held.use(store.lease(digestOf(key)));
  }
  await using first = new BenchThread({ handle: store.handle(), keys: KEYS });
  await using second = new BenchThread({ handle: store.handle(), keys: KEYS });

  progress('single leases beside a writer');
  const us: number[] = [];
  let written = 0;
  for (let round = 0; round < (quick ? 2 : 10); round++) {
    const measured = await meanwhile(first.ask({ do: 'latency', samples: quick ? 50_000 : 200_000 }), () => {
      for (let i = 0; i < 8; i++) store.put(digestOf(KEYS + (written++ % PASSING)), value, { costMs: 1 });
    });
    for (const each of measured.us ?? []) us.push(each);
  }
  const sorted = Float64Array.from(us).toSorted();
  const at = (share: number): number => sorted[Math.floor(share * sorted.length)] as number;

  const one: number[] = [];
  const ratios: number[] = [];
  const cpuRatios: number[] = [];
  const forMs = quick ? 200 : 1000;
  for (let round = 0; round < (quick ? 3 : 15); round++) {
    progress(`one thread and two, round ${round + 1}`);
    const [a, b] = round % 2 === 0 ? [first, second] : [second, first];
    const alone = await a.ask({ do: 'throughput', forMs });
    const both = await Promise.all([a, b].map((each) => each.ask({ do: 'throughput', forMs })));
    const over = (of: 'perS' | 'perCpuS'): number =>
      both.reduce((sum, each) => sum + (each[of] ?? 0), 0) / (alone[of] ?? Number.NaN);
    one.push(alone.perS ?? Number.NaN);
    ratios.push(over('perS'));
    cpuRatios.push(over('perCpuS'));
  }
  return {
    lease_p50_us: at(0.5),
    lease_p99_us: at(0.99),
    lease_per_s: median(one),
    scale_2_threads: median(ratios),
    scale_2_threads_by_cpu_time: median(cpuRatios),
    writer_puts: written,
  };
}

/** Answers a second of `GET` of as many bytes, one after the other; nothing if there is no Redis here. */
async function measureRedis(quick: boolean, progress: SuiteOptions['progress']): Promise<number | undefined> {
  const redis = await startRedis();
  if (typeof redis === 'string') {
    progress(`without lease_over_redis: ${redis}`);
    return undefined;
  }
  await using running = redis;
  progress('Redis');
  const { client } = running;
  for (let key = 0; key < KEYS; key++) await client.set(`key ${key}`, Buffer.alloc(VALUE_BYTES));
  const ms: number[] = [];
  for (let i = -50; i < (quick ? 300 : 3000); i++) {
    const key = `key ${(i + 50) % KEYS}`;
    const took = await timed(() => client.getBuffer(key));
    if (i >= 0) ms.push(took);
  }
  return 1000 / percentile(ms, 0.5);
}

/** Two threads that check every byte, one that writes, and the owner, which writes, deletes and evicts. */
async function measureTornReads(quick: boolean, progress: SuiteOptions['progress']): Promise<Figures> {
  const forMs = quick ? 3000 : 60_000;
  const keys = 96;
  const maxBytes = 256 * 1024;
  progress(`torn reads, ${forMs / 1000} s`);
  // Room for about half of the keys, so that memory is used again all the time.
  using store = SharedMemoryStore.create({
    budgetBytes: 8 * MIB,
    maxEntries: 128,
    maxThreads: 8,
    policy: policyOf('lru'),
  });
  store.listen();
  await using readers = new AsyncDisposableStack();
  const threads = Array.from({ length: 3 }, () => readers.use(new BenchThread({ handle: store.handle(), keys: 0 })));
  for (const { worker } of threads) store.watch(worker);
  const working = Promise.all(
    threads.map((thread, seed) =>
      seed < 2
        ? thread.ask({ do: 'check', forMs, keys, seed })
        : thread.ask({ do: 'write', forMs, keys, seed, maxBytes }),
    ),
  );
  const random = createRandom(99);
  const reports = await meanwhile(working, () => {
    const key = random.below(keys);
    if (random.below(6) === 0) store.delete(digestOf(key));
    else {
      const seed = random.below(2 ** 20) * keys + key;
      const write = (into: Uint8Array): void => fillPattern(into, seed);
      store.put(
        digestOf(key),
        { lengthBytes: random.below(maxBytes), write },
        { costMs: 1, metadata: seedBytes(seed) },
      );
    }
  });
  const sum = (of: (report: Measured) => number | undefined): number =>
    reports.slice(0, 2).reduce((total, report) => total + (of(report) ?? 0), 0);
  return {
    torn_reads: sum(({ torn }) => torn),
    checked_reads: sum(({ operations }) => operations),
    checked_gb: sum(({ bytes }) => bytes) / 1e9,
    checked_beside_evictions: store.stats().evictions,
  };
}

/** Works again and again until a promise settles, and gives what it brings; the loop turns between. */
async function meanwhile<T>(promise: Promise<T>, work: () => void): Promise<T> {
  const state = { settled: false };
  const settled = promise.finally(() => (state.settled = true));
  while (!state.settled) {
    work();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return settled;
}
