/** Memory that loads set aside in a shared partition: whatever they do with it, it comes back. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { FakeClock } from '../../src/base/clock.ts';
import { isInferkvError } from '../../src/base/errors.ts';
import type { MakeDraft } from '../../src/cache/partition.ts';
import { SharedPartition } from '../../src/cache/shared-partition.ts';
import type { ValueCodec } from '../../src/cache/value-codec.ts';
import { createPolicy } from '../../src/policies/registry.ts';
import { createRandom } from '../../src/base/random.ts';

const BUDGET_BYTES = 2 ** 20;

/** Bytes as they are. */
const plain: ValueCodec<Uint8Array> = {
  encode: (value) => ({
    lengthBytes: value.length,
    metadata: new Uint8Array(0),
    write: (into) => into.set(value),
  }),
  decode: (bytes) => bytes,
};

function partitionOf(codec: ValueCodec<Uint8Array> = plain): SharedPartition<Uint8Array> {
  return new SharedPartition({
    name: 'test',
    budgetBytes: BUDGET_BYTES,
    codec,
    policy: (context) => createPolicy('lru', context),
    clock: new FakeClock(),
    random: createRandom(1),
    maxEntries: 64,
    maxThreads: 2,
  });
}

const loaded = (lengthBytes: number): { value: Uint8Array; sizeBytes: number; costMs: number } => ({
  value: new Uint8Array(lengthBytes).fill(3),
  sizeBytes: lengthBytes,
  costMs: 1,
});

describe('what loads set aside in a shared partition', () => {
  it('takes a value somewhat longer than what was reserved for it', async () => {
    await using partition = partitionOf();
    const { lease } = await partition.fetch('a', async () => loaded(120), { reserveBytes: 100 });
    assert.deepEqual([...lease.value], Array(120).fill(3));
    lease.release();
  });

  it('gives no draft to a load that is over', async () => {
    await using partition = partitionOf();
    let keptMake: MakeDraft<Uint8Array> | undefined;
    const { lease } = await partition.fetch('a', async (_signal, makeDraft) => {
      keptMake = makeDraft;
      return loaded(100);
    });
    lease.release();
    const { usedBytes } = partition.stats();
    assert.equal(keptMake?.({ lengthBytes: 1000, metadata: new Uint8Array(0) }), undefined);
    assert.equal(partition.stats().usedBytes, usedBytes);
  });

  it('gives no draft of a form that is too long to lie with it, and keeps the load alive', async () => {
    await using partition = partitionOf();
    const { lease } = await partition.fetch('a', async (_signal, makeDraft) => {
      assert.equal(makeDraft?.({ lengthBytes: 10, metadata: new Uint8Array(65_300) }), undefined);
      return loaded(10);
    });
    assert.equal(lease.value.length, 10);
    lease.release();
  });

  it('has it back where a value cannot be written down', async () => {
    const failing = { ...plain, encode: () => assert.fail('no such value') };
    await using partition = partitionOf(failing);
    await assert.rejects(
      partition.fetch('a', async () => loaded(10), { reserveBytes: 1000 }),
      /no such value/,
    );
    assert.equal(partition.stats().usedBytes, 0);
  });

  it('ends the wait for room where the partition closes', async () => {
    const partition = partitionOf();
    const lengthBytes = 0.6 * partition.stats().budgetBytes;
    const { lease } = await partition.fetch('a', async () => loaded(Math.floor(lengthBytes)));
    const never = partition.fetch('b', async () => assert.fail('there is no room'), {
      reserveBytes: Math.floor(lengthBytes),
    });
    let error: unknown;
    never.catch((reason: unknown) => (error = reason));
    await partition.close();
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(isInferkvError(error, 'ERR_INFERKV_CLOSED'), `still waits: ${String(error)}`);
    lease.release();
  });
});
