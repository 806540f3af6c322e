/** The thread that reads and writes JSON which is too long for the event loop. */
import { parentPort } from 'node:worker_threads';

import { isInferkvError, messageOf } from '../../base/errors.ts';
import { bytesOf, isStrings, type Tensor } from '../../base/tensor.ts';
import { decodeInferRequest } from './infer-request.ts';
import { jsonOfTensor } from './json-data.ts';
import type { CodecReply, CodecRequest } from './codec.ts';

function answer(request: CodecRequest): { readonly reply: CodecReply; readonly transfer: ArrayBuffer[] } {
  const { id } = request;
  if (request.kind === 'decode') {
    const decoded = decodeInferRequest(request.bytes, request.jsonLength);
    // Several inputs may be views of the one body.
    return { reply: { id, decoded }, transfer: [...new Set(Object.values(decoded.inputs).flatMap(buffersOf))] };
  }
  const json = new TextEncoder().encode(jsonOfTensor(request.name, request.tensor));
  return { reply: { id, json }, transfer: [json.buffer] };
}

function buffersOf({ data }: Tensor): ArrayBuffer[] {
  return isStrings(data) ? [] : [bytesOf(data).buffer as ArrayBuffer];
}

parentPort?.on('message', (request: CodecRequest) => {
  try {
    const { reply, transfer } = answer(request);
    parentPort?.postMessage(reply, transfer);
  } catch (error) {
    const code = isInferkvError(error) ? error.code : 'ERR_INFERKV_BODY_INVALID';
    parentPort?.postMessage({ id: request.id, code, message: messageOf(error) } satisfies CodecReply);
  }
});
