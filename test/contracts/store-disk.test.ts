import { after } from 'node:test';

import { createDiskStore } from '../../src/stores/disk/index.ts';
import { testStore } from '../../src/stores/store-contract.ts';
import { TempFolder } from '../support/temp.ts';

const temp = new TempFolder();
after(() => temp[Symbol.dispose]());

const open = async (): Promise<ReturnType<typeof createDiskStore>> =>
  createDiskStore({ folder: temp.at('store'), budgetBytes: 128 * 2 ** 20 });

testStore('disk', { open, openAgain: open, keepsEpochs: true, grantsRights: true });

const durable = async (): Promise<ReturnType<typeof createDiskStore>> =>
  createDiskStore({ folder: temp.at('durable'), budgetBytes: 128 * 2 ** 20, durability: 'data' });

testStore('disk, durable', { open: durable, openAgain: durable, keepsEpochs: true, grantsRights: true });
