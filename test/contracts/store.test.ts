import { testStore } from '../../src/stores/store-contract.ts';
import { MapServer, MapStore } from '../support/map-store.ts';

const server = new MapServer();

testStore('map', {
  open: async () => new MapStore('map', server),
  keepsEpochs: true,
  grantsRights: true,
  openAgain: async () => new MapStore('map', server),
});
