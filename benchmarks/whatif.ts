/** How far the what-if's estimates are from full replays, and what it costs a partition that it listens to. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { systemClock } from '../src/base/clock.ts';
import { createRandom } from '../src/base/random.ts';
import { ENTRY_OVERHEAD_BYTES } from '../src/cache/entry-facts.ts';
import { HeapPartition } from '../src/cache/heap-partition.ts';
import { createPolicy } from '../src/policies/registry.ts';
import { readTrace } from '../src/simulator/read-trace.ts';
import { ReplayCache } from '../src/simulator/replay-cache.ts';
import { RequestBatch } from '../src/simulator/request-batch.ts';
import { LiveWhatIf } from '../src/simulator/what-if/live-what-if.ts';
import { createWhatIf } from '../src/simulator/what-if/what-if.ts';
import { inTurns, median, percentile, type Figures, type Suite, type SuiteOptions } from './suite.ts';

const TRACES = join(import.meta.dirname, '..', '..', 'shared', 'traces', 'mooncake');
const POINTS = 100;
const SEEDS = 20;
const BUDGETS = [5860, 10_000, 30_000];
const POLICIES = ['lru', 'arc', 's3-fifo', 'sieve'];

const KEYS = 100_000;
const CAPACITY = 10_000;
const ENTRY_BYTES = 400;
const USES = 1_000_000;
const USES_A_TURN = 10_000;

export const whatif: Suite = {
  name: 'whatif',
  summary: 'errors of the live what-if against full replays (points), and what it costs a partition (share)',
  run,
};

async function run({ quick, progress }: SuiteOptions): Promise<Figures> {
  const figures: Record<string, number> = {};
  const errors: number[] = [];
  for (const trace of ['conversation', 'synthetic']) {
    const path = join(TRACES, `${trace}_trace.jsonl`);
    if (!existsSync(path)) {
      progress(`${trace} left out: there is no ${path}`);
      continue;
    }
    progress(`${trace}, ${BUDGETS.length * POLICIES.length} caches`);
    const requests = await requestsOf(path);
    const found = errorsOf(requests, quick ? 3 : SEEDS);
    for (const [name, each] of Object.entries(found.byCache)) figures[`${trace}.${name}`] = percentile(each, 0.95);
    figures[`${trace}.error_p95`] = percentile(found.all, 0.95);
    figures[`${trace}.rate`] = median(found.rates);
    figures[`${trace}.tracked_keys`] = Math.min(...found.tracked);
    errors.push(...found.all);
  }
  if (errors.length > 0) {
    figures['whatif_error_p50'] = median(errors);
    figures['whatif_error_p95'] = percentile(errors, 0.95);
    figures['whatif_error_max'] = Math.max(...errors);
  }
  progress('Zipf 1.0, with and without');
  return { ...figures, ...(await throughput(quick)) };
}

interface Errors {
  readonly all: readonly number[];
  /** By `<blocks>.<policy>`. */
  readonly byCache: Readonly<Record<string, readonly number[]>>;
  readonly rates: readonly number[];
  readonly tracked: readonly number[];
}

async function requestsOf(path: string): Promise<readonly Int32Array[]> {
  const requests: Int32Array[] = [];
  await readTrace(path, {}, (batch) => {
    for (let request = 0, from = 0; request < batch.requests; request++) {
      const to = batch.ends[request] ?? 0;
      requests.push(Int32Array.from(batch.ids.subarray(from, to)));
      from = to;
    }
  });
  return requests;
}

/** Absolute differences of hit rates in points, for every cache and seed. */
function errorsOf(requests: readonly Int32Array[], seeds: number): Errors {
  const batch = new RequestBatch();
  for (const ids of requests) {
    for (const id of ids) batch.add(id, 1, 1);
    batch.endRequest(0);
  }
  const full = POLICIES.flatMap((policy) =>
    BUDGETS.map((budget) => {
      const cache = new ReplayCache({ budget, unitSizes: true, policy: (to) => createPolicy(policy, to), seed: 1 });
      cache.replay(batch);
      return cache.counts().hits / cache.counts().references;
    }),
  );
  const all: number[] = [];
  const byCache: Record<string, number[]> = {};
  const rates: number[] = [];
  const tracked: number[] = [];
  for (let seed = 1; seed <= seeds; seed++) {
    const estimator = createWhatIf({ budgets: BUDGETS, policies: POLICIES, seed });
    for (const ids of requests) estimator.usedChain([], ids, 1, 1);
    for (const [at, { policy, budgetBytes, hitRate, rate, trackedKeys }] of estimator.estimates().entries()) {
      const error = POINTS * Math.abs(hitRate - (full[at] ?? 0));
      all.push(error);
      (byCache[`${budgetBytes}.${policy}`] ??= []).push(error);
      rates.push(rate);
      tracked.push(trackedKeys);
    }
  }
  return { all, byCache, rates, tracked };
}

/**
 * Get, and set on a miss, over keys of very different popularity, on the partition that services use, with and without a live
 * what-if; in turns, so that all meet the same machine. The share of the serving thread's throughput that it takes.
 */
async function throughput(quick: boolean): Promise<Figures> {
  const keys = zipf();
  const budget = CAPACITY * (ENTRY_BYTES + ENTRY_OVERHEAD_BYTES);
  const live: LiveWhatIf[] = [];
  const partition = (budgets: readonly number[], policies: readonly string[]): HeapPartition<number> => {
    const listener = budgets.length === 0 ? undefined : new LiveWhatIf({ budgets, policies, seed: 1 });
    if (listener !== undefined) live.push(listener);
    return new HeapPartition<number>({
      name: 'results',
      budgetBytes: budget,
      policy: (context) => createPolicy('lru', context),
      clock: systemClock,
      random: createRandom(1),
      listener,
    });
  };
  const plain = partition([], []);
  // Twice the memory, by the partition's own policy and by another; and four caches.
  const two = partition([2 * budget], ['lru', 's3-fifo']);
  const four = partition([budget, 2 * budget], ['lru', 's3-fifo']);
  // What is measured is running traffic: the caches are full and the sample has its size, which the thread has to tell.
  for (let round = 0; round < 12; round++) {
    for (const each of [plain, two, four]) await use(each, keys);
    for (const each of live) await each.estimates();
  }
  const times = await inTurns(quick ? 3 : 61, {
    without: () => use(plain, keys),
    two: () => use(two, keys),
    four: () => use(four, keys),
  });
  const dropped = (await Promise.all(live.map((each) => each.estimates()))).map(({ droppedBatches }) => droppedBatches);
  for (const each of live) await each.close();
  const costOf = (name: 'two' | 'four'): number =>
    1 - median(times.without.map((without, at) => without / (times[name][at] ?? Number.NaN)));
  return {
    use_ns: (1e6 * median(times.without)) / USES,
    whatif_throughput_cost: costOf('two'),
    whatif_throughput_cost_of_four: costOf('four'),
    whatif_dropped_batches: Math.max(...dropped),
  };
}

/** As a service does it: other work of the thread has its turn between requests. */
async function use(partition: HeapPartition<number>, keys: readonly string[]): Promise<void> {
  for (let from = 0; from < keys.length; from += USES_A_TURN) {
    useSome(partition, keys, from);
    await new Promise(setImmediate);
  }
}

function useSome(partition: HeapPartition<number>, keys: readonly string[], from: number): void {
  for (let at = from; at < from + USES_A_TURN; at++) {
    const key = keys[at] as string;
    if (partition.get(key) === undefined) partition.set(key, 1, { sizeBytes: ENTRY_BYTES, costMs: 1 });
  }
}

function zipf(): readonly string[] {
  const random = createRandom(5);
  const names = Array.from({ length: KEYS }, (_, rank) => `key-${rank}`);
  const upTo = new Float64Array(KEYS);
  let sum = 0;
  for (let rank = 0; rank < KEYS; rank++) upTo[rank] = sum += 1 / (rank + 1);
  return Array.from({ length: USES }, () => {
    const wanted = random.next() * sum;
    let low = 0;
    for (let high = KEYS - 1; low < high;) {
      const middle = (low + high) >> 1;
      if ((upTo[middle] ?? 0) < wanted) low = middle + 1;
      else high = middle;
    }
    return names[low] ?? '';
  });
}
