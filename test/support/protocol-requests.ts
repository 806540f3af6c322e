import assert from 'node:assert/strict';

import { ProtocolError, type WireTensor } from './protocol-client.ts';

/** A tensor of float32 numbers in one dimension. */
export function floats(name: string, values: readonly number[]): WireTensor {
  return { name, datatype: 'FP32', shape: [values.length], values };
}

/** Holds a request to being refused with a status, and with a message that says so much. */
export async function refused(work: Promise<unknown>, status: number, text: RegExp): Promise<ProtocolError> {
  let seen: unknown;
  await assert.rejects(work, (error) => {
    seen = error;
    return error instanceof ProtocolError && error.status === status && text.test(error.message);
  });
  return seen as ProtocolError;
}
