/** Many callers at once: what the cache gives when requests repeat, what it costs when none does, and how free the loop stays. */
import { createRandom, type Random } from '../src/base/random.ts';
import { createInferenceCache, tensor, type CacheMode, type CachedModel } from '../src/index.ts';
import { syntheticImage } from '../src/demo/index.ts';
import { benchmarkRepository, SMALL_INPUT } from './small-model.ts';
import { median, percentile, watchLoop, type Figures, type Suite, type SuiteOptions } from './suite.ts';

const CALLERS = 64;
const BATCH_SIZE = 32;
const DISTINCT_INPUTS = 1000;
const ZIPF_EXPONENT = 1;

// Room for about a quarter of the distinct results (1 KB each, with what an entry takes besides).
const RESULTS_BUDGET_BYTES = 250 * (1024 + 320);

export const concurrency: Suite = {
  name: 'concurrency',
  summary: '64 callers, Zipf over 1,000 inputs of a small model; event-loop gaps with two models running',
  run,
};

async function run({ quick, progress }: SuiteOptions): Promise<Figures> {
  await using repository = await benchmarkRepository();
  const throughput = await measureThroughput(repository.folder, quick, progress);
  progress(`event-loop gaps over ${quick ? 5 : 60} s, two models running`);
  const gaps = await loopGaps(repository.folder, quick ? 5000 : 60_000);
  return { ...throughput, loop_gap_p999_ms: percentile(gaps, 0.999), loop_gap_max_ms: percentile(gaps, 1) };
}

async function measureThroughput(folder: string, quick: boolean, progress: (text: string) => void): Promise<Figures> {
  await using cache = createInferenceCache({
    repository: folder,
    partitions: { results: { budgetBytes: RESULTS_BUDGET_BYTES } },
  });
  await using batching = createInferenceCache({
    repository: folder,
    models: { 'small-rows': { batching: { maxSize: BATCH_SIZE } } },
  });
  const model = cache.model('small');
  const batched = batching.model('small-rows');
  const random = createRandom(3);
  const zipf = zipfian(DISTINCT_INPUTS, ZIPF_EXPONENT, random);
  let serial = 0;
  const fresh = (): number => DISTINCT_INPUTS + ++serial;
  const segmentMs = quick ? 500 : 3000;
  const loads = {
    uncached: (): Promise<Load> => drive(model, segmentMs, 'bypass', fresh),
    batched: (): Promise<Load> => drive(batched, segmentMs, 'bypass', fresh),
    allNew: (): Promise<Load> => drive(model, segmentMs, 'use', fresh),
    zipf: (): Promise<Load> => drive(model, segmentMs, 'use', zipf),
    hits: (): Promise<Load> => drive(model, segmentMs / 3, 'use', () => 0),
  };
  const seen: Record<keyof typeof loads, Load[]> = { uncached: [], batched: [], allNew: [], zipf: [], hits: [] };
  // All-new requests push the popular results out, so the Zipf load warms up anew after each of its turns.
  const names = ['uncached', 'batched', 'allNew', 'zipf', 'hits'] as const;
  await loads.zipf();
  await batched.load();
  for (let round = 0; round < (quick ? 2 : 8); round++) {
    progress(`${CALLERS} callers, round ${round + 1}`);
    for (const name of round % 2 === 0 ? names : names.toReversed()) seen[name].push(await loads[name]());
  }
  const perS = (name: keyof typeof loads): number => median(seen[name].map((load) => load.answers / load.seconds));
  const hitRate = median(seen.zipf.map((load) => 1 - load.runs / load.answers));
  return {
    uncached_per_s: perS('uncached'),
    zipf_per_s: perS('zipf'),
    hits_per_s: perS('hits'),
    hit_rate: hitRate,
    throughput_over_uncached: perS('zipf') / perS('uncached'),
    throughput_bar: 0.8 / (1 - hitRate),
    // Above it hits themselves (hashing, copying, promises) are the limit, not the runs that are left.
    bound_hit_rate: 1 - (0.8 * perS('uncached')) / perS('hits'),
    allnew_over_uncached: perS('allNew') / perS('uncached'),
    // No cache either, but requests that come together in one run, over the same model for one row at a time.
    batched_per_s: perS('batched'),
    batched_over_uncached: perS('batched') / perS('uncached'),
    p99_ms: median(seen.zipf.map((load) => percentile(load.latenciesMs, 0.99))),
  };
}

interface Load {
  readonly answers: number;
  /** Answers that a run of the model was made for. */
  readonly runs: number;
  readonly seconds: number;
  readonly latenciesMs: readonly number[];
}

/** Callers that each ask again as soon as they have their answer. */
async function drive(model: CachedModel, forMs: number, cache: CacheMode, next: () => number): Promise<Load> {
  const latenciesMs: number[] = [];
  let runs = 0;
  const start = performance.now();
  const caller = async (): Promise<void> => {
    const data = new Float32Array(SMALL_INPUT).fill(0.5);
    const input = tensor(data, [1, SMALL_INPUT]);
    for (let asked = start; asked - start < forMs; asked = performance.now()) {
      data[0] = next();
      const answer = await model.run({ input }, { cache });
      if (answer.cache.status === 'miss' || answer.cache.status === 'bypass') runs++;
      latenciesMs.push(performance.now() - asked);
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  return { answers: latenciesMs.length, runs, seconds: (performance.now() - start) / 1000, latenciesMs };
}

/** Ranks from 0, the probability of each falling with its rank: by table and binary search. */
function zipfian(count: number, exponent: number, random: Random): () => number {
  const cumulative = new Float64Array(count);
  let sum = 0;
  for (let rank = 0; rank < count; rank++) {
    sum += 1 / (rank + 1) ** exponent;
    cumulative[rank] = sum;
  }
  return () => {
    const target = random.next() * sum;
    let low = 0;
    let high = count - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((cumulative[middle] ?? sum) < target) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

/** Milliseconds from one tick of a 1 ms timer to the next, while two models run without a pause. */
async function loopGaps(folder: string, forMs: number): Promise<readonly number[]> {
  await using cache = createInferenceCache({ repository: folder });
  const small = cache.model('small');
  const resnet50 = cache.model('resnet50');
  const image = syntheticImage();
  await Promise.all([small.load(), resnet50.load()]);
  const until = performance.now() + forMs;
  const repeat = async (request: () => Promise<unknown>): Promise<void> => {
    while (performance.now() < until) await request();
  };
  let serial = 0;
  const [gaps] = await Promise.all([
    watchLoop(until),
    ...Array.from({ length: 8 }, () => repeat(() => resnet50.run({ input: image }, { cache: 'bypass' }))),
    ...Array.from({ length: CALLERS }, () =>
      repeat(() => small.run({ input: tensor(new Float32Array(SMALL_INPUT).fill(serial++), [1, SMALL_INPUT]) })),
    ),
  ]);
  return gaps;
}
