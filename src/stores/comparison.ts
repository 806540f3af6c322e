import type { Store } from './store.ts';

/** What a store is like, for whoever has to choose one. */
export interface StoreFeatures {
  readonly persistence: string;
  readonly sharing: string;
  readonly limits: string;
  readonly transactions: string;
  readonly choose: string;
}

/** The five stores, by what they are measured as. */
export const STORE_FEATURES: Readonly<Record<string, StoreFeatures>> = {
  memory: {
    persistence: 'none',
    sharing: 'threads of a process',
    limits: 'its budget',
    transactions: 'one owner thread',
    choose: 'always, as the level above the others',
  },
  disk: {
    persistence: 'survives restarts; power loss if set so',
    sharing: 'processes of a machine',
    limits: 'its budget; 64 MiB a record',
    transactions: 'LMDB: one writer, readers never wait',
    choose: 'one machine, more than memory holds, warm after a restart',
  },
  redis: {
    persistence: "the server's own (AOF, RDB)",
    sharing: 'machines',
    limits: "the server's memory; 512 MiB a record",
    transactions: 'scripts, one slot in a Cluster',
    choose: 'several nodes: fast, tells of invalidations at once',
  },
  memcached: {
    persistence: 'none',
    sharing: 'machines',
    limits: "the servers' memory; 1 MiB an item, more in chunks",
    transactions: 'compare and swap an item',
    choose: 'several nodes, Memcached is there already, losing some is fine',
  },
  dynamodb: {
    persistence: 'durable, in several places',
    sharing: 'machines, regions',
    limits: 'none in sum; 400 KB an item, more in chunks',
    transactions: 'conditional writes',
    choose: 'AWS, no server to run, rare and dear values; paid by request',
  },
};

/** What one kind of call did. */
export interface Measurement {
  readonly op: 'get' | 'put';
  readonly sizeBytes: number;
  /** Calls under way at a time. */
  readonly depth: number;
  readonly opsPerSecond: number;
  readonly bytesPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** How long and what is measured. */
export interface MeasureOptions {
  readonly sizes: readonly number[];
  readonly depths: readonly number[];
  /** Milliseconds of each kind of call. */
  readonly durationMs: number;
}

// As many different records as calls under way need, and a few more, so that not one place is asked all the time.
const RECORDS = 32;

/** Puts and gets records of several sizes, one and several at a time. */
export async function measureStore(
  store: Store,
  { sizes, depths, durationMs }: MeasureOptions,
): Promise<readonly Measurement[]> {
  const measurements: Measurement[] = [];
  for (const sizeBytes of sizes) {
    const record = Uint8Array.from({ length: sizeBytes }, (_, at) => (at * 31) & 255);
    const nameOf = (call: number): string => `measure/${sizeBytes}/${call % RECORDS}`;
    for (let call = 0; call < RECORDS; call++) await store.put(nameOf(call), [record]);
    for (const depth of depths) {
      const measure = async (op: Measurement['op'], call: (at: number) => Promise<unknown>): Promise<void> => {
        measurements.push({ op, sizeBytes, depth, ...(await timesOf(call, depth, durationMs, sizeBytes)) });
      };
      await measure('put', (at) => store.put(nameOf(at), [record]));
      await measure('get', (at) => store.get(nameOf(at)));
    }
    for (let call = 0; call < RECORDS; call++) await store.delete(nameOf(call));
  }
  return measurements;
}

async function timesOf(
  call: (at: number) => Promise<unknown>,
  depth: number,
  durationMs: number,
  sizeBytes: number,
): Promise<Omit<Measurement, 'op' | 'sizeBytes' | 'depth'>> {
  const times: number[] = [];
  const start = performance.now();
  let calls = 0;
  const lane = async (): Promise<void> => {
    for (let before = performance.now(); before - start < durationMs;) {
      await call(calls++);
      const now = performance.now();
      times.push(now - before);
      before = now;
    }
  };
  await Promise.all(Array.from({ length: depth }, lane));
  const seconds = (performance.now() - start) / 1000;
  times.sort((a, b) => a - b);
  const at = (share: number): number =>
    times[Math.min(times.length - 1, Math.floor(share * times.length))] ?? Number.NaN;
  const opsPerSecond = times.length / seconds;
  return { opsPerSecond, bytesPerSecond: opsPerSecond * sizeBytes, p50Ms: at(0.5), p99Ms: at(0.99) };
}
