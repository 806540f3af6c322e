/** Records in Amazon's DynamoDB. (TorchDynamo and NVIDIA Dynamo are other things.) */
export { DynamoStore, type DynamoStoreOptions } from './store.ts';
export { createDynamoTable } from './table.ts';
export type { DynamoConnection } from './client.ts';
