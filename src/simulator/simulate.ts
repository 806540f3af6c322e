import { InferkvError } from '../base/errors.ts';
import type { Clock } from '../base/clock.ts';
import { createAdmission, createPolicy } from '../policies/registry.ts';
import { boundsOf, type BoundKind } from './bounds.ts';
import type { TraceFormat } from './format.ts';
import { readTrace } from './read-trace.ts';
import { ReferenceLog } from './reference-log.ts';
import { ReplayCache, type ReplayCounts } from './replay-cache.ts';
import { costOf, sizeOf, UNKNOWN, type RequestBatch } from './request-batch.ts';

/** References a bound looks at, at most: about two gigabytes of them. */
const BOUND_REFERENCES = 30_000_000;

/** What budgets count: entries, all taken for equal, or bytes. */
export type BudgetUnit = 'blocks' | 'bytes';

/** What to replay, and how. */
export interface SimulationOptions {
  /** Files that make up one trace, in their order. */
  readonly files: readonly string[];
  /** What their first lines look like if left out. */
  readonly format?: TraceFormat | undefined;
  /** Only what went to this partition, in formats that know partitions. */
  readonly partition?: string | undefined;
  /** Policies by name; `lru+tinylfu` is the policy `lru` behind the admission `tinylfu`. */
  readonly policies: readonly string[];
  /** Budgets to replay with, each with each policy. */
  readonly budgets: readonly number[];
  readonly unit: BudgetUnit;
  /** Bytes of an entry whose size the trace does not tell. */
  readonly entryBytes?: number | undefined;
  /** `false` leaves out the bound, which needs the whole trace in memory. */
  readonly bound?: boolean;
  /** References past which the bound is left out; thirty million if not given. */
  readonly boundReferences?: number;
  readonly seed?: number;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
}

/** One policy with one budget. Rates are shares from 0 to 1. */
export interface SimulationRow {
  /** As it was asked for, or `belady` for the bound. */
  readonly policy: string;
  readonly budget: number;
  /** References that were hits; of a chain those of its longest run from the start. */
  readonly hitRate: number;
  /** Bytes that were hits; left out where the trace tells no sizes. */
  readonly byteHitRate?: number | undefined;
  /** Milliseconds that hits saved; left out where the trace tells no costs. */
  readonly costSaved?: number | undefined;
}

/** What came out of a replay. */
export interface Simulation {
  readonly files: readonly string[];
  readonly format: string;
  readonly unit: BudgetUnit;
  readonly requests: number;
  /** Entries asked for: the requests, or all blocks of their chains. */
  readonly references: number;
  /** `true` if some request was for a chain of blocks. */
  readonly isChained: boolean;
  readonly rows: readonly SimulationRow[];
  /** What the rows of `belady` are: the `exact` optimum, a `relaxed` bound from above, or not there. */
  readonly bound: BoundKind | undefined;
  /** Why there is no bound. */
  readonly boundNote?: string | undefined;
  readonly elapsedMs: number;
}

interface Contestant {
  readonly policy: string;
  readonly budget: number;
  readonly cache: ReplayCache;
}

/**
 * Replays a trace with the shipped policies. The trace is streamed: memory follows the budgets, not its length, but for
 * the bound.
 *
 * @throws InferkvError `ERR_INFERKV_POLICY_UNKNOWN`, `ERR_INFERKV_CONFIG_INVALID` for budgets that make no sense or
 * sizes that nobody knows, and what `readTrace` throws
 */
export async function simulate(options: SimulationOptions): Promise<Simulation> {
  const { clock, unit } = options;
  for (const budget of options.budgets) assertBudget(budget);
  const contestants = contestantsOf(options);
  const log = options.bound === false ? undefined : new ReferenceLog(options.boundReferences ?? BOUND_REFERENCES);
  const facts = { requests: 0, references: 0, isChained: false, knowsSizes: true, knowsCosts: true };
  const start = clock.now();
  const onBatch = (batch: RequestBatch): void => {
    facts.requests += batch.requests;
    facts.references += batch.length;
    facts.isChained ||= batch.length > batch.requests;
    complete(batch, options, facts);
    for (const { cache } of contestants) cache.replay(batch);
    log?.add(batch, unit === 'blocks' ? () => 1 : (at) => sizeOf(batch, at), (at) => costOf(batch, at));
  };
  let format = '';
  for (const file of options.files) ({ name: format } = await readTrace(file, options, onBatch));
  if (facts.references === 0) throw nothingRead(options);
  const elapsedMs = clock.now() - start;
  const rows = contestants.map(({ policy, budget, cache }) => rowOf(policy, budget, cache.counts(), facts));
  const optimal = log === undefined ? undefined : boundsOf(log, options.budgets);
  return {
    files: options.files,
    format,
    unit,
    requests: facts.requests,
    references: facts.references,
    isChained: facts.isChained,
    rows: [...rows, ...(optimal?.bounds ?? []).map((each) => boundRow(each, contestants, facts))],
    bound: optimal?.kind,
    boundNote: boundNote(options, log),
    elapsedMs,
  };
}

/** @throws InferkvError `ERR_INFERKV_CONFIG_INVALID` */
function assertBudget(budget: number): void {
  if (Number.isFinite(budget) && budget >= 1) return;
  throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `A budget of ${budget} holds nothing; give one from 1 on.`);
}

function contestantsOf({ policies, budgets, unit, seed = 1 }: SimulationOptions): readonly Contestant[] {
  return policies.flatMap((policy) => {
    const plus = policy.indexOf('+');
    const eviction = plus < 0 ? policy : policy.slice(0, plus);
    const admission = plus < 0 ? undefined : policy.slice(plus + 1);
    return budgets.map((budget): Contestant => {
      const cache = new ReplayCache({
        budget,
        unitSizes: unit === 'blocks',
        policy: (context) => createPolicy(eviction, context),
        admission: admission === undefined ? undefined : (context) => createAdmission(admission, context),
        seed,
      });
      return { policy, budget, cache };
    });
  });
}

interface Facts {
  knowsSizes: boolean;
  knowsCosts: boolean;
}

/** Fills in sizes that the trace does not tell, and notes what it does tell. */
function complete(batch: RequestBatch, { unit, entryBytes, files }: SimulationOptions, facts: Facts): void {
  for (let at = 0; at < batch.length; at++) {
    if (batch.costs[at] === UNKNOWN) facts.knowsCosts = false;
    if (batch.sizes[at] !== UNKNOWN) continue;
    if (entryBytes !== undefined) batch.sizes[at] = entryBytes;
    else if (unit === 'blocks') facts.knowsSizes = false;
    else {
      throw new InferkvError(
        'ERR_INFERKV_CONFIG_INVALID',
        `${files.join(', ')}: the trace does not tell the size of its entries; give budgets as --blocks, or say what an entry takes with --entry-bytes.`,
      );
    }
  }
}

function rowOf(policy: string, budget: number, counts: ReplayCounts, facts: Facts): SimulationRow {
  return {
    policy,
    budget,
    hitRate: counts.hits / counts.references,
    byteHitRate: facts.knowsSizes ? counts.hitBytes / counts.bytes : undefined,
    costSaved: facts.knowsCosts ? counts.savedMs / counts.costMs : undefined,
  };
}

function boundRow(
  { budget, hits, hitBytes, savedMs }: ReturnType<typeof boundsOf>['bounds'][number],
  contestants: readonly Contestant[],
  facts: Facts,
): SimulationRow {
  const counts = contestants[0]?.cache.counts();
  return {
    policy: 'belady',
    budget,
    hitRate: hits / (counts?.references ?? 1),
    byteHitRate: facts.knowsSizes ? share(hitBytes, counts?.bytes) : undefined,
    costSaved: facts.knowsCosts ? share(savedMs, counts?.costMs) : undefined,
  };
}

function share(part: number | undefined, whole: number | undefined): number | undefined {
  return part === undefined || whole === undefined ? undefined : part / whole;
}

function boundNote(
  { boundReferences = BOUND_REFERENCES }: SimulationOptions,
  log: ReferenceLog | undefined,
): string | undefined {
  if (log === undefined || !log.isFull) return undefined;
  return `no bound: it needs the whole trace in memory, and this one has more than ${boundReferences} references`;
}

function nothingRead({ files, partition }: SimulationOptions): InferkvError {
  const of = partition === undefined ? '' : ` of the partition ${partition}`;
  return new InferkvError('ERR_INFERKV_TRACE_INVALID', `${files.join(', ')}: there are no requests${of} in it.`);
}
