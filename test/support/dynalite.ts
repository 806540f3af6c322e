import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import dynalite from 'dynalite';

import { createDynamoTable, type DynamoStoreOptions } from '../../src/stores/dynamodb/index.ts';

/** An emulator of DynamoDB in this process, with a table. */
export interface Dynalite {
  readonly options: DynamoStoreOptions;
  stop(): Promise<void>;
}

/** Starts one that forgets everything when it stops. */
export async function startDynalite(): Promise<Dynalite> {
  const server: Server = dynalite({ createTableMs: 0, deleteTableMs: 0, updateTableMs: 0 });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const options: DynamoStoreOptions = {
    table: 'inferkv',
    region: 'eu-central-1',
    endpoint: `http://127.0.0.1:${port}`,
    client: { credentials: { accessKeyId: 'test', secretAccessKey: 'test' } },
  };
  await createDynamoTable(options);
  return {
    options,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
