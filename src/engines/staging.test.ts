import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { SlabPool } from '../base/slab-pool.ts';
import { bytesOf, isStrings, tensor, type Tensors } from '../base/tensor.ts';
import { stage } from './staging.ts';

const makeShared = (bytes: number): SharedArrayBuffer => new SharedArrayBuffer(bytes);

describe('staging', () => {
  const tensors = (): Tensors => ({
    odd: tensor(Uint8Array.of(1, 2, 3), [3]),
    wide: tensor(Float64Array.of(4, 5), [2]),
    texts: tensor(['a', 'b'], [2]),
    shared: tensor(new Float32Array(new SharedArrayBuffer(8)), [2]),
    none: tensor(new Float32Array(0), [0]),
  });

  it('puts a copy of everything where other threads can read it, and shared memory goes as it is', () => {
    const originals = tensors();
    const { tensors: staged, bytes } = stage(originals, new SlabPool(makeShared));
    const byName = Object.fromEntries(staged);
    assert.deepEqual(byName, originals);
    assert.equal(byName['shared']?.data, originals['shared']?.data);
    assert.notEqual(byName['texts']?.data, originals['texts']?.data);
    for (const name of ['odd', 'wide', 'none']) {
      const data = byName[name]?.data;
      assert.ok(data !== undefined && !isStrings(data) && bytesOf(data).buffer instanceof SharedArrayBuffer);
    }
    assert.equal(bytes, 128);
  });

  it('uses memory again, up to what it may keep', () => {
    const pool = new SlabPool(makeShared, 10_000);
    const first = stage(tensors(), pool);
    const slab = (first.tensors[0]?.[1].data as Uint8Array).buffer;
    first.release();
    assert.equal(pool.retainedBytes, 4096);
    const second = stage(tensors(), pool);
    assert.equal((second.tensors[0]?.[1].data as Uint8Array).buffer, slab);
    assert.equal(pool.retainedBytes, 0);
    second.release();
    pool.give(pool.take(5000));
    assert.equal(pool.retainedBytes, 4096);
  });

  it('needs no memory for nothing', () => {
    const pool = new SlabPool(makeShared);
    assert.equal(stage({}, pool).bytes, 0);
    stage({ s: tensor(['x'], [1]) }, pool).release();
    assert.equal(pool.retainedBytes, 0);
  });
});
