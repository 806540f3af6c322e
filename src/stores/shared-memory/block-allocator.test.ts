import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { BlockAllocator } from './block-allocator.ts';

type Step =
  | { readonly do: 'allocate'; readonly units: number }
  | { readonly do: 'free'; readonly pick: number }
  | { readonly do: 'split'; readonly pick: number; readonly share: number };

const stepsArbitrary: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant('allocate' as const), units: fc.integer({ min: 1, max: 700 }) }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('free' as const), pick: fc.nat(1000) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('split' as const),
        pick: fc.nat(1000),
        share: fc.double({ min: 0, max: 1, noNaN: true }),
      }),
    },
  ),
  { maxLength: 200, size: 'max' },
);

const SEGMENTS = [1000, 1000, 500];

/** Every unit has one owner, neighbours know each other, no two free blocks touch, and the sums are right. */
function check(allocator: BlockAllocator, held: readonly number[]): void {
  const bySegment = SEGMENTS.map((units) => new Int32Array(units));
  for (const block of held) {
    assert.equal(allocator.isFree(block), false);
    const cells = bySegment[allocator.segment(block)];
    const start = allocator.start(block);
    assert.ok(start >= 1 && start + allocator.units(block) <= (cells?.length ?? 0));
    for (let unit = start; unit < start + allocator.units(block); unit++) {
      assert.equal(cells?.[unit], 0, 'two blocks overlap');
      if (cells !== undefined) cells[unit] = 1;
    }
    for (const [neighbour, back] of [
      [allocator.before(block), (at: number) => allocator.after(at)],
      [allocator.after(block), (at: number) => allocator.before(at)],
    ] as const) {
      if (neighbour === -1) continue;
      assert.equal(back(neighbour), block);
      if (!allocator.isFree(neighbour)) continue;
      const beyond = allocator.before(neighbour) === block ? allocator.after(neighbour) : allocator.before(neighbour);
      assert.ok(beyond === -1 || !allocator.isFree(beyond), 'two free blocks touch');
    }
  }
  const heldUnits = held.reduce((sum, block) => sum + allocator.units(block), 0);
  assert.equal(allocator.freeUnits, allocator.totalUnits - heldUnits);
  assert.equal(allocator.usedBlocks, held.length);
  assert.equal(
    allocator.longestRun(() => true),
    Math.max(...SEGMENTS) - 1,
  );
  const longestFree = Math.max(0, ...bySegment.map((cells) => longestOf(cells.subarray(1), 0)));
  assert.equal(
    allocator.longestRun(() => false),
    longestFree,
  );
}

/** The longest run of one value. */
function longestOf(cells: Int32Array, value: number): number {
  let longest = 0;
  let run = 0;
  for (const cell of cells) {
    run = cell === value ? run + 1 : 0;
    longest = Math.max(longest, run);
  }
  return longest;
}

/** The longest run of units that no block holds. */
function longestRun(allocator: BlockAllocator, held: readonly number[]): number {
  let longest = 0;
  for (const [segment, units] of SEGMENTS.entries()) {
    const blocks = held
      .filter((block) => allocator.segment(block) === segment)
      .toSorted((a, b) => allocator.start(a) - allocator.start(b));
    let end = 1;
    for (const block of blocks) {
      longest = Math.max(longest, allocator.start(block) - end);
      end = allocator.start(block) + allocator.units(block);
    }
    longest = Math.max(longest, units - end);
  }
  return longest;
}

describe('the block allocator', () => {
  it('keeps to what must always be true, and fails only where no run is long enough', () => {
    fc.assert(
      fc.property(stepsArbitrary, (steps) => {
        const allocator = new BlockAllocator(SEGMENTS, 1);
        const held: number[] = [];
        for (const step of steps) {
          if (step.do === 'allocate') {
            const fits = longestRun(allocator, held) >= step.units;
            const block = allocator.allocate(step.units, held.length);
            if (block === -1)
              assert.ok(longestRun(allocator, held) < step.units * (1 + 1 / 16), 'it fails with room left');
            else assert.ok(fits);
            if (block === -1) continue;
            assert.equal(allocator.units(block), step.units);
            held.push(block);
          } else if (held.length > 0) {
            const at = step.pick % held.length;
            const block = held[at] as number;
            if (step.do === 'free') {
              held.splice(at, 1);
              assert.equal(allocator.isFree(allocator.free(block)), true);
            } else if (allocator.units(block) > 1) {
              const units = 1 + Math.floor(step.share * (allocator.units(block) - 2));
              const rest = allocator.split(block, units);
              assert.equal(allocator.holder(rest), allocator.holder(block));
              held.push(rest);
            }
          }
          check(allocator, held);
        }
        for (const block of held) allocator.free(block);
        assert.equal(allocator.freeUnits, allocator.totalUnits);
        assert.equal(allocator.blocks, SEGMENTS.length, 'everything is joined again');
        for (const units of SEGMENTS.toSorted((a, b) => b - a)) assert.notEqual(allocator.allocate(units - 1, 0), -1);
        assert.equal(allocator.freeUnits, 0);
      }),
      { numRuns: 300 },
    );
  });

  it('divides segments of four gigabytes', () => {
    const units = 2 ** 26;
    const allocator = new BlockAllocator([units, units, units], 1);
    const blocks = Array.from({ length: 3 }, (_, holder) => allocator.allocate(units - 1, holder));
    assert.deepEqual(
      blocks.map((block) => allocator.segment(block)).toSorted((a, b) => a - b),
      [0, 1, 2],
    );
    assert.equal(allocator.allocate(1, 0), -1);
  });

  it('knows a block that is about as long as the longest', () => {
    const allocator = new BlockAllocator([1000], 0);
    const blocks = [100, 50, 200, 50, 400, 200].map((units, holder) => allocator.allocate(units, holder));
    assert.equal(allocator.longest(), -1);
    allocator.free(blocks[0] as number);
    allocator.free(blocks[4] as number);
    allocator.free(blocks[2] as number);
    assert.equal(allocator.units(allocator.longest()), 400);
  });

  it('holds its callers to the contract', () => {
    const allocator = new BlockAllocator([100], 0);
    const block = allocator.allocate(10, 0);
    assert.throws(() => allocator.allocate(0, 0), /at least one unit/);
    assert.throws(() => allocator.split(block, 10), /split inside/);
    allocator.free(block);
    assert.throws(() => allocator.free(block), /freed twice/);
  });
});
