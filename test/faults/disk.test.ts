import assert from 'node:assert/strict';
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';

import { createRandom } from '../../src/base/random.ts';
import { createDiskStore } from '../../src/stores/disk/index.ts';
import { DiskWriter } from '../support/disk-writer.ts';
import { TempFolder } from '../support/temp.ts';
import { versionOf } from '../support/versioned-records.ts';

const MIB = 2 ** 20;
const KILLS = 200;
const FOLDERS = 4;

describe('disk store: processes that die', () => {
  it(`loses nothing that was acknowledged, and gives nothing wrong, in ${KILLS} kills`, async () => {
    using temp = new TempFolder();
    const totals = { kills: 0, checked: 0 };
    await Promise.all(
      Array.from({ length: FOLDERS }, (_, at) => killOften(temp.at(`store-${at}`), 100 + at, KILLS / FOLDERS, totals)),
    );
    assert.equal(totals.kills, KILLS);
    assert.ok(totals.checked > KILLS, `${totals.checked} records compared`);
  });
});

/** One folder, one writer after the other; each is killed after some acknowledgements, while others of its writes are under way. */
async function killOften(
  folder: string,
  seed: number,
  kills: number,
  totals: { kills: number; checked: number },
): Promise<void> {
  const random = createRandom(seed);
  const budgetBytes = 16 * MIB;
  const orders = { folder, budgetBytes, lanes: 4, namesOfLane: 4, minBytes: 10, maxBytes: 120_000, prefix: 'r' };
  // What is known of each name: the newest that was acknowledged, and the newest that may be there.
  const sure = new Map<string, number>();
  const possible = new Map<string, number>();
  const next = (kill: number): DiskWriter =>
    new DiskWriter({ ...orders, seed: seed * 1000 + kill, writes: 10_000, firstVersion: kill * 10_000 + 1 });
  let writer = next(0);
  for (let kill = 0; kill < kills; kill++) {
    const current = writer;
    await current.ready;
    const after = 1 + random.below(40);
    current.onLine = (count) => count >= after && current.kill();
    current.begin();
    // The next one is started meanwhile, and opens the folder when it is told to.
    if (kill + 1 < kills) writer = next(kill + 1);
    await current.ended;
    assert.equal(current.errors, '');
    totals.kills++;
    for (const [name, version] of current.acknowledged) sure.set(name, version);
    for (const [name, version] of current.begun) possible.set(name, version);
    await using store = createDiskStore({ folder, budgetBytes });
    for (const [name, newest] of possible) {
      const read = await store.get(name);
      const oldest = sure.get(name);
      if (read === undefined) assert.equal(oldest, undefined, `${name} is gone after kill ${kill}`);
      else {
        const version = versionOf(name, read);
        assert.equal(typeof version, 'number', `${name}: ${version} after kill ${kill}`);
        assert.ok(
          (version as number) >= (oldest ?? 0) && (version as number) <= newest,
          `${name}: ${version} after kill ${kill}`,
        );
        // What was seen once stays.
        sure.set(name, version as number);
      }
      totals.checked++;
    }
    assert.deepEqual(store.stats().faults, { entry: 0, missing: 0, cut: 0, foreign: 0 });
    assert.ok(bytesIn(folder) <= budgetBytes, `${bytesIn(folder)} bytes after kill ${kill}`);
  }
}

/** What all files of a folder take. */
function bytesIn(folder: string): number {
  let sum = 0;
  for (const name of readdirSync(folder)) sum += lstatSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0;
  return sum;
}

describe('disk store: several processes', () => {
  it('keeps to the budget and to a number of files while all write more than there is room for', async () => {
    using temp = new TempFolder();
    const folder = temp.at('store');
    const budgetBytes = 16 * MIB;
    const writers = [1, 2, 3].map(
      (seed) =>
        new DiskWriter({
          ...{ folder, budgetBytes, seed, lanes: 3, namesOfLane: 1000, minBytes: 100, maxBytes: 200_000, writes: 250 },
          ...{ prefix: `w${seed}`, firstVersion: 1 },
        }),
    );
    let most = 0;
    let mostFiles = 0;
    for (const writer of writers) {
      writer.onLine = () => {
        most = Math.max(most, bytesIn(folder));
        mostFiles = Math.max(mostFiles, readdirSync(folder).length);
      };
    }
    await Promise.all(writers.map(({ ready }) => ready));
    for (const writer of writers) writer.begin();
    await Promise.all(writers.map(({ ended }) => ended));
    for (const { errors } of writers) assert.equal(errors, '');
    assert.ok(most <= budgetBytes, `${most} bytes`);
    assert.ok(most > budgetBytes / 2, `only ${most} bytes`);
    assert.ok(mostFiles < 200, `${mostFiles} files`);
    const stored = writers.reduce((sum, { outcomes }) => sum + (outcomes.get('stored') ?? 0), 0);
    assert.equal(stored, 3 * 3 * 250, 'each write found room');
    await using store = createDiskStore({ folder, budgetBytes });
    let found = 0;
    for (const { acknowledged } of writers) {
      for (const [name, version] of acknowledged) {
        const read = await store.get(name);
        if (read === undefined) continue;
        found++;
        assert.equal(versionOf(name, read), version);
      }
    }
    assert.ok(found > 50, `${found} records are there still`);
    assert.equal(found, store.stats().records);
    assert.ok((store.stats().usedBytes ?? 0) <= budgetBytes);
  });
});
