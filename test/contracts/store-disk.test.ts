import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';

import { DiskStore } from '../../src/stores/disk/index.ts';
import { testStore } from '../../src/stores/store-contract.ts';

let folder: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'inferkv-disk-'));
});

after(() => rm(folder, { recursive: true, force: true }));

const open = async (): Promise<DiskStore> => new DiskStore({ folder, budgetBytes: 512 * 2 ** 20 });

testStore('disk', { open, openAgain: open, keepsEpochs: true, grantsRights: true });
