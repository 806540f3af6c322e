/** How far the what-if's estimates are from full replays, and what it costs a partition that it listens to. */
import { createHash } from 'node:crypto';
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
import { createWhatIf, type WhatIf } from '../src/simulator/what-if/what-if.ts';
import { median, percentile, type Figures, type Suite, type SuiteOptions } from './suite.ts';

const TRACES = join(import.meta.dirname, '..', '..', 'shared', 'traces', 'mooncake');
const POINTS = 100;
const SEEDS = 20;
const BUDGETS = [5860, 10_000, 30_000];
const POLICIES = ['lru', 'arc', 's3-fifo', 'sieve'];

const KEYS = 100_000;
const CAPACITY = 10_000;
const MIN_BYTES = 512;
const MAX_BYTES = 4096;
const COST_MS = 2.5;
const VALUE = {};
const USES = 1_000_000;
/** Operations a call, as in the suite core; and those that one contestant does before the other has its turn. */
const PIECE = 250;
const TURN = 10_000;

export const whatif: Suite = {
  name: 'whatif',
  summary:
    'errors of the live what-if against full replays (points), and what share of the serving thread it takes from get and set',
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
    const found = await errorsOf(requests, quick ? 3 : SEEDS);
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
async function errorsOf(requests: readonly Int32Array[], seeds: number): Promise<Errors> {
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
    const estimator = createWhatIf({ budgets: BUDGETS, policies: POLICIES, seed, replay: 'inline' });
    for (const ids of requests) estimator.usedChain([], ids, 1, 1);
    for (const [at, { policy, budgetBytes, hitRate, rate, trackedKeys }] of (await estimator.estimates()).entries()) {
      const error = POINTS * Math.abs(hitRate - (full[at] ?? 0));
      all.push(error);
      (byCache[`${budgetBytes}.${policy}`] ??= []).push(error);
      rates.push(rate);
      tracked.push(trackedKeys);
    }
  }
  return { all, byCache, rates, tracked };
}

interface Work {
  readonly keys: readonly string[];
  readonly sizeBytes: Int32Array;
  readonly requests: Int32Array;
  readonly budgetBytes: number;
}

/**
 * Public `get`, and `set` on a miss, of a heap partition as in the suite core; in turns of a millisecond, so that all meet the same
 * machine. What is measured is running traffic: the caches are full and the sample has its size.
 */
async function throughput(quick: boolean): Promise<Figures> {
  const work = makeWork();
  const { budgetBytes } = work;
  // Twice the memory, by the partition's own policy and by another; and four caches.
  await using two = createWhatIf({ budgets: [2 * budgetBytes], policies: ['lru', 's3-fifo'], seed: 1 });
  const budgets = [budgetBytes, 2 * budgetBytes];
  await using four = createWhatIf({ budgets, policies: ['lru', 's3-fifo'], seed: 1 });
  await using inline = createWhatIf({
    budgets: [2 * budgetBytes],
    policies: ['lru', 's3-fifo'],
    seed: 1,
    replay: 'inline',
  });
  const contestants = [undefined, two, four, inline].map((whatIf) => partitionOf(budgetBytes, whatIf));
  const rounds = quick ? 5 : 41;
  const times: number[][] = contestants.map(() => []);
  for (let round = -3; round < rounds; round++) {
    const spent = contestants.map(() => 0);
    for (let from = 0, turn = 0; from < USES; from += TURN, turn++) {
      for (let each = 0; each < contestants.length; each++) {
        const at = (each + turn) % contestants.length;
        const start = performance.now();
        use(contestants[at] as HeapPartition<object>, work, from, from + TURN);
        spent[at] = (spent[at] ?? 0) + performance.now() - start;
      }
    }
    // Whoever asks lets the threads catch up.
    for (const whatIf of [two, four]) await whatIf.estimates();
    if (round >= 0) for (const [at, each] of spent.entries()) times[at]?.push(each);
  }
  const costOf = (at: number): number =>
    1 - median((times[0] ?? []).map((without, round) => without / (times[at]?.[round] ?? Number.NaN)));
  const cpuWithout = cpuOf(partitionOf(budgetBytes, undefined), work);
  const cpuWith = cpuOf(contestants[1] as HeapPartition<object>, work);
  return {
    use_ns: (1e6 * median(times[0] ?? [])) / USES,
    whatif_throughput_cost: costOf(1),
    whatif_throughput_cost_of_four: costOf(2),
    whatif_throughput_cost_inline: costOf(3),
    whatif_dropped_share: two.dropped / (USES * (rounds + 3)),
    whatif_cpu_cost_all_threads: 1 - cpuWithout / cpuWith,
  };
}

function partitionOf(budgetBytes: number, whatIf: WhatIf | undefined): HeapPartition<object> {
  return new HeapPartition<object>({
    name: 'results',
    policy: (context) => createPolicy('lru', context),
    budgetBytes,
    clock: systemClock,
    random: createRandom(1),
    sampler: whatIf,
  });
}

function use(partition: HeapPartition<object>, work: Work, from: number, to: number): void {
  for (let at = from; at < to; at += PIECE) useSome(partition, work, at, at + PIECE);
}

function useSome(
  partition: HeapPartition<object>,
  { keys, sizeBytes, requests }: Work,
  from: number,
  to: number,
): void {
  for (let i = from; i < to; i++) {
    const at = requests[i] as number;
    const key = keys[at] as string;
    if (partition.get(key) === undefined) {
      partition.set(key, VALUE, { sizeBytes: sizeBytes[at] as number, costMs: COST_MS });
    }
  }
}

/** Processor time of all threads, milliseconds. */
function cpuOf(partition: HeapPartition<object>, work: Work): number {
  use(partition, work, 0, USES);
  const start = process.cpuUsage();
  for (let round = 0; round < 3; round++) use(partition, work, 0, USES);
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

function makeWork(): Work {
  const random = createRandom(5);
  const keys = Array.from({ length: KEYS }, (_, rank) => createHash('sha256').update(String(rank)).digest('hex'));
  const sizeBytes = Int32Array.from(keys, () => MIN_BYTES + random.below(MAX_BYTES - MIN_BYTES));
  const meanBytes = sizeBytes.reduce((sum, each) => sum + each, 0) / KEYS;
  const upTo = new Float64Array(KEYS);
  let sum = 0;
  for (let rank = 0; rank < KEYS; rank++) upTo[rank] = sum += 1 / (rank + 1);
  const requests = Int32Array.from({ length: USES }, () => {
    const wanted = random.next() * sum;
    let low = 0;
    for (let high = KEYS - 1; low < high;) {
      const middle = (low + high) >> 1;
      if ((upTo[middle] ?? 0) < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  });
  return { keys, sizeBytes, requests, budgetBytes: Math.floor(CAPACITY * (meanBytes + ENTRY_OVERHEAD_BYTES)) };
}
