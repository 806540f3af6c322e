/** Heap partitions against the in-memory caches that a Node service would take instead: the same keys, sizes and capacity in one process. */
import { createHash } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { LRUCache } from 'lru-cache';
import { LRUMap } from 'mnemonist';

import { systemClock } from '../src/base/clock.ts';
import { createRandom, type Random } from '../src/base/random.ts';
import { ENTRY_OVERHEAD_BYTES } from '../src/cache/entry-facts.ts';
import { HeapPartition } from '../src/cache/heap-partition.ts';
import { createPolicy, policyNames } from '../src/policies/registry.ts';
import { median, type Figures, type Suite, type SuiteOptions } from './suite.ts';

const KEYS = 100_000;
const CAPACITY = 10_000;
const ZIPF_EXPONENT = 1;
const MIN_BYTES = 512;
const MAX_BYTES = 4096;
const COST_MS = 2.5;
const TTL_MS = 600_000;
const WARM_ROUNDS = 4;
const PIECE = 250;
// Few enough that all fit in every cache.
const HELD = 9000;

export const core: Suite = {
  name: 'core',
  summary:
    'get and set of a heap partition, Zipf over 100,000 keys at a capacity of 10,000, beside lru-cache and mnemonist',
  run,
};

/** What all contestants are given. */
interface Work {
  readonly keys: readonly string[];
  readonly values: readonly object[];
  readonly sizeBytes: Int32Array;
  /** Room for 10,000 entries of the mean size. */
  readonly budgetBytes: number;
  /** Which key each request asks for. */
  readonly requests: Int32Array;
  /** Requests for keys that all contestants hold. */
  readonly held: Int32Array;
  readonly heldKeys: Int32Array;
  readonly uniform: Int32Array;
}

/** One library's caches, and loops over them that no other library's objects go through, so that each is compiled for its own. */
interface Library<Cache> {
  make(work: Work, ttlMs: number | undefined): Cache;
  getSet(cache: Cache, work: Work, from: number, to: number): number;
  get(cache: Cache, work: Work, from: number, to: number): number;
  set(cache: Cache, work: Work, from: number, to: number): number;
}

const inferkv: Library<HeapPartition<object>> = {
  make: ({ budgetBytes }, ttlMs) => partition('lru', budgetBytes, ttlMs),
  getSet(cache, { keys, values, sizeBytes, requests }, from, to) {
    let hits = 0;
    for (let i = from; i < to; i++) {
      const at = requests[i] as number;
      const key = keys[at] as string;
      if (cache.get(key) !== undefined) hits++;
      else cache.set(key, values[at] as object, { sizeBytes: sizeBytes[at] as number, costMs: COST_MS });
    }
    return hits;
  },
  get(cache, { keys, held }, from, to) {
    let hits = 0;
    for (let i = from; i < to; i++) if (cache.get(keys[held[i] as number] as string) !== undefined) hits++;
    return hits;
  },
  set(cache, { keys, values, sizeBytes, uniform }, from, to) {
    for (let i = from; i < to; i++) {
      const at = uniform[i] as number;
      cache.set(keys[at] as string, values[at] as object, { sizeBytes: sizeBytes[at] as number, costMs: COST_MS });
    }
    return to - from;
  },
};

const lruCache: Library<LRUCache<string, object>> = {
  make: ({ budgetBytes }, ttlMs) => new LRUCache({ maxSize: budgetBytes, ...(ttlMs !== undefined && { ttl: ttlMs }) }),
  getSet(cache, { keys, values, sizeBytes, requests }, from, to) {
    let hits = 0;
    for (let i = from; i < to; i++) {
      const at = requests[i] as number;
      const key = keys[at] as string;
      if (cache.get(key) !== undefined) hits++;
      else cache.set(key, values[at], { size: (sizeBytes[at] as number) + ENTRY_OVERHEAD_BYTES });
    }
    return hits;
  },
  get(cache, { keys, held }, from, to) {
    let hits = 0;
    for (let i = from; i < to; i++) if (cache.get(keys[held[i] as number] as string) !== undefined) hits++;
    return hits;
  },
  set(cache, { keys, values, sizeBytes, uniform }, from, to) {
    for (let i = from; i < to; i++) {
      const at = uniform[i] as number;
      cache.set(keys[at] as string, values[at], { size: (sizeBytes[at] as number) + ENTRY_OVERHEAD_BYTES });
    }
    return to - from;
  },
};

const mnemonist: Library<LRUMap<string, object>> = {
  // It knows neither sizes nor times.
  make: () => new LRUMap(CAPACITY),
  getSet(cache, { keys, values, requests }, from, to) {
    let hits = 0;
    for (let i = from; i < to; i++) {
      const at = requests[i] as number;
      const key = keys[at] as string;
      if (cache.get(key) !== undefined) hits++;
      else cache.set(key, values[at] as object);
    }
    return hits;
  },
  get(cache, { keys, held }, from, to) {
    let hits = 0;
    for (let i = from; i < to; i++) if (cache.get(keys[held[i] as number] as string) !== undefined) hits++;
    return hits;
  },
  set(cache, { keys, values, uniform }, from, to) {
    for (let i = from; i < to; i++) {
      const at = uniform[i] as number;
      cache.set(keys[at] as string, values[at] as object);
    }
    return to - from;
  },
};

type Name = 'inferkv' | 'lru_cache' | 'mnemonist';
type Loop = 'getSet' | 'get' | 'set';

const libraries: Readonly<Record<Name, unknown>> = { inferkv, lru_cache: lruCache, mnemonist };
const names = Object.keys(libraries) as readonly Name[];

async function run({ quick, progress }: SuiteOptions): Promise<Figures> {
  const operations = quick ? 50_000 : 200_000;
  const rounds = quick ? 5 : 41;
  const work = makeWork(CAPACITY * 10 + operations);
  // A cache has partitions with other policies beside this one, so that calls to a policy are not inlined for one alone.
  enliven(['gdsf', 'lru'], work);
  const measure = (what: string, loop: Loop, ttlMs?: number): Measured => {
    progress(`${what}, ${rounds} rounds of ${operations} operations`);
    return compare(work, loop, ttlMs, rounds, operations);
  };
  const getSet = measure('get, and set on a miss', 'getSet');
  const getSetTtl = measure('the same with times to live', 'getSet', TTL_MS);
  const get = measure('get of what is there', 'get');
  const getTtl = measure('the same with times to live', 'get', TTL_MS);
  const set = measure('set of new keys', 'set');
  enliven(policyNames, work);
  const getSetAmongAll = measure('get, and set on a miss, with every policy in use', 'getSet');
  progress('leases, and bytes an entry takes');
  return {
    getset_over_lru_cache: over(getSet, 'lru_cache'),
    get_over_lru_cache: over(get, 'lru_cache'),
    getset_ttl_over_lru_cache_ttl: over(getSetTtl, 'lru_cache'),
    get_ttl_over_lru_cache_ttl: over(getTtl, 'lru_cache'),
    set_over_lru_cache: over(set, 'lru_cache'),
    getset_over_mnemonist: over(getSet, 'mnemonist'),
    get_over_mnemonist: over(get, 'mnemonist'),
    set_over_mnemonist: over(set, 'mnemonist'),
    getset_over_lru_cache_among_all_policies: over(getSetAmongAll, 'lru_cache'),
    ...timesOf('getset', getSet),
    ...timesOf('getset_ttl', getSetTtl),
    ...timesOf('get', get),
    ...timesOf('get_ttl', getTtl),
    ...timesOf('set', set),
    hit_rate: getSet.inferkv.hitRate,
    lru_cache_hit_rate: getSet.lru_cache.hitRate,
    mnemonist_hit_rate: getSet.mnemonist.hitRate,
    lease_ns: leaseNs(work, rounds, operations),
    charged_overhead_bytes: ENTRY_OVERHEAD_BYTES,
    ...measuredOverhead(quick),
  };
}

type Measured = Readonly<Record<Name, { readonly ns: readonly number[]; readonly hitRate: number }>>;

/** Every library once a round, in turns, each with a new cache that is full when the time starts. */
function compare(work: Work, loop: Loop, ttlMs: number | undefined, rounds: number, operations: number): Measured {
  const ns: Record<Name, number[]> = { inferkv: [], lru_cache: [], mnemonist: [] };
  const hits: Record<Name, number> = { inferkv: 0, lru_cache: 0, mnemonist: 0 };
  const filling = CAPACITY * 10;
  for (let round = -WARM_ROUNDS; round < rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const library = libraries[name] as Library<object>;
      const cache = library.make(work, ttlMs);
      if (loop === 'get') inPieces(library, 'set', cache, { ...work, uniform: work.heldKeys }, 0, HELD);
      else inPieces(library, 'getSet', cache, work, 0, filling);
      const start = performance.now();
      hits[name] = inPieces(library, loop, cache, work, filling, filling + operations);
      const elapsedMs = performance.now() - start;
      if (round >= 0) ns[name].push((elapsedMs * 1e6) / operations);
    }
  }
  const measuredOf = (name: Name): Measured[Name] => ({ ns: ns[name], hitRate: hits[name] / operations });
  return {
    inferkv: measuredOf('inferkv'),
    lru_cache: measuredOf('lru_cache'),
    mnemonist: measuredOf('mnemonist'),
  };
}

/**
 * Calls a loop for few operations at a time, as a service calls: one that runs once for all is compiled while it runs, and
 * whether what it calls is ever compiled for itself is then a matter of luck.
 */
function inPieces(library: Library<object>, loop: Loop, cache: object, work: Work, from: number, to: number): number {
  let hits = 0;
  for (let at = from; at < to; at += PIECE) hits += library[loop](cache, work, at, Math.min(to, at + PIECE));
  return hits;
}

/** How many times as fast as another: the median of what each round says. */
function over(measured: Measured, other: Name): number {
  return median(measured.inferkv.ns.map((ns, round) => (measured[other].ns[round] as number) / ns));
}

function timesOf(what: string, measured: Measured): Figures {
  return Object.fromEntries(names.map((name) => [`${name}.${what}_ns`, median(measured[name].ns)]));
}

function leaseNs(work: Work, rounds: number, operations: number): number {
  const cache = inferkv.make(work, undefined);
  inPieces(inferkv, 'set', cache, { ...work, uniform: work.heldKeys }, 0, HELD);
  const ns: number[] = [];
  for (let round = -WARM_ROUNDS; round < rounds; round++) {
    const start = performance.now();
    for (let i = 0; i < operations; i++) cache.lease(work.keys[work.held[i] as number] as string)?.release();
    if (round >= 0) ns.push(((performance.now() - start) * 1e6) / operations);
  }
  return median(ns);
}

/** Puts partitions with these policies to work, so that the engine knows of them. */
function enliven(policies: readonly string[], work: Work): void {
  for (const policy of policies) {
    const other = partition(policy, work.budgetBytes, undefined);
    inPieces(inferkv, 'getSet', other, work, 0, 50_000);
  }
}

/**
 * Bytes of memory that an entry takes besides its value: key, index, facts, policy and the ring of departures. Arrays double,
 * so it depends on the number of entries; the mean and the most over numbers between two doublings.
 */
function measuredOverhead(quick: boolean): Figures {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const inUse = (): number => {
    collect();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const value = {};
  const first = quick ? 16_384 : 65_536;
  // All are held until the end: what is freed in between would count as less.
  const held: HeapPartition<object>[] = [];
  const bytes = Array.from({ length: 8 }, (_, step) => {
    const entries = Math.ceil(first * 2 ** (step / 8)) + 1;
    const before = inUse();
    const cache = partition('lru', Number.MAX_SAFE_INTEGER, undefined);
    held.push(cache);
    for (let at = 0; at < entries; at++) cache.set(digest(at), value, { sizeBytes: 0, costMs: COST_MS });
    return (inUse() - before) / entries;
  });
  held.length = 0;
  return {
    entry_overhead_bytes: bytes.reduce((sum, each) => sum + each, 0) / bytes.length,
    entry_overhead_max_bytes: Math.max(...bytes),
  };
}

function partition(policy: string, budgetBytes: number, ttlMs: number | undefined): HeapPartition<object> {
  return new HeapPartition<object>({
    name: policy,
    policy: (context) => createPolicy(policy, context),
    budgetBytes,
    clock: systemClock,
    random: createRandom(1),
    ttlMs,
  });
}

function makeWork(length: number): Work {
  const random = createRandom(42);
  const keys = Array.from({ length: KEYS }, (_, at) => digest(at));
  const values = keys.map((_, at) => ({ at }));
  const sizeBytes = Int32Array.from(keys, () => MIN_BYTES + random.below(MAX_BYTES - MIN_BYTES));
  const meanBytes = sizeBytes.reduce((sum, each) => sum + each, 0) / KEYS;
  const rank = shuffled(KEYS, random);
  const zipf = zipfian(random);
  const draw = (below: number): number => {
    let drawn = zipf();
    while (drawn >= below) drawn = zipf();
    return rank[drawn] as number;
  };
  const fill = (next: () => number): Int32Array => Int32Array.from({ length }, next);
  return {
    keys,
    values,
    sizeBytes,
    budgetBytes: Math.floor(CAPACITY * (meanBytes + ENTRY_OVERHEAD_BYTES)),
    requests: fill(() => draw(KEYS)),
    held: fill(() => draw(HELD)),
    heldKeys: rank.slice(0, HELD),
    uniform: fill(() => random.below(KEYS)),
  };
}

function digest(of: number): string {
  return createHash('sha256').update(String(of)).digest('hex');
}

function shuffled(length: number, random: Random): Int32Array {
  const order = Int32Array.from({ length }, (_, at) => at);
  for (let at = length - 1; at > 0; at--) {
    const other = random.below(at + 1);
    [order[at], order[other]] = [order[other] as number, order[at] as number];
  }
  return order;
}

/** Ranks by Zipf's law, from a table of sums. */
function zipfian(random: Random): () => number {
  const sums = new Float64Array(KEYS);
  let sum = 0;
  for (let rank = 0; rank < KEYS; rank++) sums[rank] = sum += (rank + 1) ** -ZIPF_EXPONENT;
  return () => {
    const drawn = random.next() * sum;
    let low = 0;
    for (let high = KEYS - 1; low < high;) {
      const middle = (low + high) >> 1;
      if ((sums[middle] as number) < drawn) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}
