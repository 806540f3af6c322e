import { SharedMemoryRecords } from '../../src/stores/shared-memory/record-store.ts';
import { testStore } from '../../src/stores/store-contract.ts';
import { MapServer, MapStore } from '../support/map-store.ts';
import { policyOf } from '../support/shared-memory.ts';

const server = new MapServer();

testStore('map', {
  open: async () => new MapStore('map', server),
  keepsEpochs: true,
  grantsRights: true,
  openAgain: async () => new MapStore('map', server),
});

testStore('shared-memory', {
  open: async () => new SharedMemoryRecords({ budgetBytes: 96 * 2 ** 20, policy: policyOf('lru') }),
  keepsEpochs: false,
  grantsRights: false,
});
