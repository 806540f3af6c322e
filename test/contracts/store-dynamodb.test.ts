import { after, before } from 'node:test';

import { DynamoStore } from '../../src/stores/dynamodb/index.ts';
import { testStore } from '../../src/stores/store-contract.ts';
import { startDynalite, type Dynalite } from '../support/dynalite.ts';

let server: Dynalite;

before(async () => {
  server = await startDynalite();
});

after(() => server.stop());

const open = async (): Promise<DynamoStore> => new DynamoStore(server.options);

testStore('dynamodb, on dynalite', { open, openAgain: open, keepsEpochs: true, grantsRights: true });
