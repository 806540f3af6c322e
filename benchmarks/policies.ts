/** What each policy hits on real traces beside the bound, and what a reference costs. Hit rates are exact; only times vary. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { systemClock } from '../src/base/clock.ts';
import { createRandom } from '../src/base/random.ts';
import { createPolicy, policyNames } from '../src/policies/registry.ts';
import { ReplayCache } from '../src/simulator/replay-cache.ts';
import { RequestBatch, UNKNOWN } from '../src/simulator/request-batch.ts';
import { simulate, type BudgetUnit, type Simulation } from '../src/simulator/simulate.ts';
import { inTurns, median, type Figures, type Suite, type SuiteOptions } from './suite.ts';

const TRACES = join(import.meta.dirname, '..', '..', 'shared', 'traces');
const PERCENT = 100;

/** A trace with the budgets to replay it with; `name` is what its figures begin with. */
interface Case {
  readonly name: string;
  readonly file: string;
  readonly unit: BudgetUnit;
  readonly budgets: readonly number[];
}

const BLOCKS = [1000, 3000, 5860, 10_000, 30_000];

/** One percent and a tenth of the bytes of all different objects of the trace. */
const ADAPT_SIZE_BYTES = [2_792_615, 27_926_154];

const CASES: readonly Case[] = [
  { name: 'conversation', file: 'mooncake/conversation_trace.jsonl', unit: 'blocks', budgets: BLOCKS },
  { name: 'synthetic', file: 'mooncake/synthetic_trace.jsonl', unit: 'blocks', budgets: BLOCKS },
  { name: 'lirs_loop', file: 'generic/caffeine_lirs_loop.trace.gz', unit: 'blocks', budgets: [256, 512, 768] },
  { name: 'web07', file: 'generic/caffeine_cache2k_web07.trace.xz', unit: 'blocks', budgets: [500, 1000, 2000] },
  {
    name: 'adapt_size',
    file: 'generic/caffeine_adapt_size_request.trace.xz',
    unit: 'bytes',
    budgets: ADAPT_SIZE_BYTES,
  },
];

const ZIPF_KEYS = 100_000;
const ZIPF_CAPACITY = 10_000;
const ZIPF_REFERENCES = 1_000_000;

export const policies: Suite = {
  name: 'policies',
  summary: 'hit rates of every policy on real traces beside the bound (percent), nanoseconds a reference',
  run,
};

async function run({ quick, progress }: SuiteOptions): Promise<Figures> {
  const figures: Record<string, number> = {};
  const rates: number[] = [];
  for (const each of CASES) {
    const path = join(TRACES, each.file);
    if (!existsSync(path)) {
      progress(`${each.name} left out: there is no ${path}`);
      continue;
    }
    progress(`${each.name}, ${policyNames.length} policies`);
    const budgets = quick ? each.budgets.slice(1, 2) : each.budgets;
    const simulation = await simulate({ ...each, files: [path], policies: policyNames, budgets, clock: systemClock });
    Object.assign(figures, hitRates(each, simulation));
    rates.push((1000 * simulation.references * budgets.length * policyNames.length) / simulation.elapsedMs);
  }
  if (rates.length > 0) figures['simulator.references_per_s'] = median(rates);
  progress('nanoseconds a reference, Zipf 1.0');
  return { ...figures, ...(await nanoseconds(quick)) };
}

function hitRates({ name }: Case, { rows }: Simulation): Figures {
  const figures: Record<string, number> = {};
  for (const { policy, budget, hitRate, byteHitRate } of rows) {
    figures[`${name}.${budget}.${policy}`] = PERCENT * hitRate;
    if (byteHitRate !== undefined) figures[`${name}_bytes.${budget}.${policy}`] = PERCENT * byteHitRate;
  }
  return figures;
}

/** Time of a reference with each policy: looking the id up, and touching it or evicting and inserting. */
async function nanoseconds(quick: boolean): Promise<Figures> {
  const batch = zipf(quick ? ZIPF_REFERENCES / 10 : ZIPF_REFERENCES);
  const contestants = Object.fromEntries(
    policyNames.map((name) => {
      const cache = new ReplayCache({
        budget: ZIPF_CAPACITY,
        unitSizes: true,
        policy: (context) => createPolicy(name, context),
        seed: 1,
      });
      return [name, () => Promise.resolve(cache.replay(batch))];
    }),
  );
  const times = await inTurns(quick ? 3 : 9, contestants);
  return Object.fromEntries(
    policyNames.map((name) => [`ns_a_reference.${name}`, (1e6 * median(times[name] ?? [])) / batch.length]),
  );
}

/** References whose frequency falls with their rank. */
function zipf(references: number): RequestBatch {
  const random = createRandom(5);
  const upTo = new Float64Array(ZIPF_KEYS);
  let sum = 0;
  for (let rank = 0; rank < ZIPF_KEYS; rank++) upTo[rank] = sum += 1 / (rank + 1);
  const batch = new RequestBatch();
  for (let at = 0; at < references; at++) {
    const wanted = random.next() * sum;
    let low = 0;
    for (let high = ZIPF_KEYS - 1; low < high;) {
      const middle = (low + high) >> 1;
      if ((upTo[middle] ?? 0) < wanted) low = middle + 1;
      else high = middle;
    }
    batch.add(low, UNKNOWN, UNKNOWN);
    batch.endRequest(0);
  }
  return batch;
}
