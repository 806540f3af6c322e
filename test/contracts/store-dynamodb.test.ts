import { after, before, describe } from 'node:test';

import { createDynamoDbStore } from '../../src/stores/dynamodb/index.ts';
import { testStore } from '../../src/stores/store-contract.ts';
import { Dynalite } from '../support/dynalite.ts';

describe('dynamodb, on dynalite', () => {
  let server: Dynalite;
  before(async () => {
    server = await Dynalite.start();
  });
  after(() => server.kill());
  const open = async () => createDynamoDbStore(server.options());

  testStore('dynamodb', { open, openAgain: open, keepsEpochs: true, grantsRights: true });
});
