/** How far the what-if's estimates are from full replays, and what it costs a partition that it listens to. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { createRandom } from '../src/base/random.ts';
import { createPolicy } from '../src/policies/registry.ts';
import { readTrace } from '../src/simulator/read-trace.ts';
import { ReplayCache } from '../src/simulator/replay-cache.ts';
import { RequestBatch } from '../src/simulator/request-batch.ts';
import { createWhatIf } from '../src/simulator/what-if/what-if.ts';
import { PlainPartition } from './plain-partition.ts';
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

/** Get, and set on a miss, over keys of very different popularity; in turns, so that all meet the same machine. */
async function throughput(quick: boolean): Promise<Figures> {
  const keys = zipf();
  const budget = CAPACITY * ENTRY_BYTES;
  const partition = (budgets: readonly number[], policies: readonly string[]): PlainPartition<number> =>
    new PlainPartition<number>(budget, createWhatIf({ budgets, policies, seed: 1 }));
  const plain = new PlainPartition<number>(budget, undefined);
  // Twice the memory, by the partition's own policy and by another; and four caches.
  const two = partition([2 * budget], ['lru', 's3-fifo']);
  const four = partition([budget, 2 * budget], ['lru', 's3-fifo']);
  // What is measured is running traffic: the caches are full and the sample has its size.
  for (let round = 0; round < 3; round++) for (const each of [plain, two, four]) use(each, keys);
  const times = await inTurns(quick ? 3 : 41, {
    without: async () => use(plain, keys),
    two: async () => use(two, keys),
    four: async () => use(four, keys),
  });
  const costOf = (name: 'two' | 'four'): number =>
    1 - median(times.without.map((without, at) => without / (times[name][at] ?? Number.NaN)));
  return {
    use_ns: (1e6 * median(times.without)) / USES,
    whatif_throughput_cost: costOf('two'),
    whatif_throughput_cost_of_four: costOf('four'),
  };
}

function use(partition: PlainPartition<number>, keys: readonly string[]): void {
  for (const key of keys) if (partition.get(key) === undefined) partition.set(key, 1, ENTRY_BYTES, 1);
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
