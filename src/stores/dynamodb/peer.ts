import type * as Sdk from '@aws-sdk/client-dynamodb';

import { InferkvError } from '../../base/errors.ts';

/** The client of DynamoDB of the AWS SDK. */
export type SdkModule = typeof Sdk;

const PEER = '@aws-sdk/client-dynamodb';

/** @throws InferkvError `ERR_INFERKV_PEER_MISSING` with the line that installs it */
export async function loadSdk(): Promise<SdkModule> {
  try {
    return await import('@aws-sdk/client-dynamodb');
  } catch (error) {
    throw new InferkvError(
      'ERR_INFERKV_PEER_MISSING',
      `The DynamoDB store needs the package ${PEER}, which could not be loaded; install it with: npm install ${PEER}@^3.1169.0`,
      { cause: error, key: PEER },
    );
  }
}
