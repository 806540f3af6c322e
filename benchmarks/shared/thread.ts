/** A thread of the benchmark `shared`: leases, checks or writes as it is told. */
import { parentPort, workerData } from 'node:worker_threads';

import { createRandom } from '../../src/base/random.ts';
import { SharedMemoryReader } from '../../src/stores/shared-memory/reader.ts';
import { countTorn, digestOf, fillPattern, seedBytes, seedOf } from '../../test/support/shared-memory.ts';
import type { Measured, Order, ThreadSetup } from './messages.ts';

const { handle, keys } = workerData as ThreadSetup;
const reader = SharedMemoryReader.attach(handle);
const digests = Array.from({ length: keys }, (_, key) => digestOf(key));
// Looks at the clock once in so many operations.
const BATCH = 1000;

/** One lease of an entry that is there: found, looked at, released. */
function leaseOnce(at: number): number {
  const lease = reader.lease(digests[at % keys] as Uint8Array);
  if (lease === undefined) throw new Error('An entry that is used all the time was evicted.');
  const first = lease.bytes[0] as number;
  lease.release();
  return first;
}

function latency(samples: number): Measured {
  const us = new Float64Array(samples);
  let sum = 0;
  for (let i = -BATCH; i < samples; i++) {
    const start = performance.now();
    sum += leaseOnce(i + BATCH);
    const ms = performance.now() - start;
    if (i >= 0) us[i] = ms * 1000;
  }
  return { us, operations: sum };
}

function throughput(forMs: number): Measured {
  const before = process.threadCpuUsage();
  const start = performance.now();
  let operations = 0;
  let elapsedMs = 0;
  let sum = 0;
  do {
    for (let i = 0; i < BATCH; i++) sum += leaseOnce(operations + i);
    operations += BATCH;
    elapsedMs = performance.now() - start;
  } while (elapsedMs < forMs);
  const { user, system } = process.threadCpuUsage(before);
  return {
    perS: (operations / elapsedMs) * 1000,
    perCpuS: (operations / (user + system)) * 1e6,
    operations,
    bytes: sum,
  };
}

/** Leases whatever is there, a few at a time, and checks every byte when it is found and again before it is released. */
function check(forMs: number, among: number, seed: number): Measured {
  const random = createRandom(seed);
  const end = performance.now() + forMs;
  let operations = 0;
  let torn = 0;
  let bytes = 0;
  while (performance.now() < end) {
    const held = [];
    for (let i = 0; i < 4; i++) {
      const key = random.below(among);
      const lease = reader.lease(digestOf(key));
      if (lease === undefined) continue;
      const valueSeed = seedOf(lease.metadata);
      if (valueSeed % among !== key) torn++;
      torn += countTorn(lease.bytes, valueSeed);
      held.push({ lease, valueSeed });
    }
    for (const { lease, valueSeed } of held) {
      torn += countTorn(lease.bytes, valueSeed);
      bytes += lease.lengthBytes;
      operations++;
      lease.release();
    }
  }
  return { operations, torn, bytes };
}

async function write({ forMs, keys: among, seed, maxBytes }: Extract<Order, { do: 'write' }>): Promise<Measured> {
  const random = createRandom(seed);
  const end = performance.now() + forMs;
  let operations = 0;
  let bytes = 0;
  while (performance.now() < end) {
    const slab = await reader.reserveWhenGranted(random.below(maxBytes), { metadataBytes: 4 });
    const key = random.below(among);
    const valueSeed = random.below(2 ** 20) * among + key;
    fillPattern(slab.bytes, valueSeed);
    bytes += slab.bytes.length;
    operations++;
    reader.commit(slab, digestOf(key), { costMs: 1, metadata: seedBytes(valueSeed) });
  }
  return { operations, bytes };
}

async function follow(order: Order): Promise<Measured> {
  if (order.do === 'latency') return latency(order.samples);
  if (order.do === 'throughput') return throughput(order.forMs);
  return order.do === 'check' ? check(order.forMs, order.keys, order.seed) : write(order);
}

parentPort?.on('message', async (order: Order) => parentPort?.postMessage(await follow(order)));
parentPort?.postMessage('begun');
