import type { Tensor, Tensors } from '../../base/tensor.ts';
import { bytesOfTensor } from './binary-data.ts';
import { datatypeOf } from './datatypes.ts';
import type { InferRequest, RequestedOutput } from './infer-request.ts';
import { jsonOfTensor } from './json-data.ts';

/** Which model answered. */
export interface Answering {
  readonly name: string;
  readonly version: string | undefined;
}

/** The body of an answer, in the pieces in which it is sent: the JSON, then the binary outputs. */
export interface EncodedResponse {
  /** Binary outputs of numbers are views of the outputs themselves. */
  readonly pieces: readonly Uint8Array[];
  /** Bytes of the JSON. */
  readonly jsonLength: number;
  /** Bytes of all. */
  readonly byteLength: number;
}

/** The elements of an output as JSON that was made before, as UTF-8. */
export type JsonElements = ReadonlyMap<string, Uint8Array>;

/**
 * Encodes an answer. Outputs come in the order in which they were asked for; those wanted as bytes follow the JSON.
 *
 * @throws InferkvError `ERR_INFERKV_OUTPUT_NOT_JSON`
 */
export function encodeInferResponse(
  model: Answering,
  request: InferRequest,
  outputs: Tensors,
  made: JsonElements = new Map(),
): EncodedResponse {
  const pieces: Uint8Array[] = [];
  const binary: Uint8Array[] = [];
  let text = `{"model_name":${JSON.stringify(model.name)},`;
  if (model.version !== undefined) text += `"model_version":${JSON.stringify(model.version)},`;
  if (request.id !== undefined) text += `"id":${JSON.stringify(request.id)},`;
  text += '"outputs":[';
  for (const [at, { name, binary: asBytes }] of wantedOutputs(request, outputs).entries()) {
    const tensor = outputs[name] as Tensor;
    text += `${at === 0 ? '' : ','}{"name":${JSON.stringify(name)},"datatype":"${datatypeOf(tensor.type)}","shape":[${tensor.shape.join(',')}],`;
    if (asBytes) {
      const bytes = bytesOfTensor(tensor);
      binary.push(bytes);
      text += `"parameters":{"binary_data_size":${bytes.byteLength}}}`;
      continue;
    }
    const elements = made.get(name);
    if (elements === undefined) {
      text += `"data":${jsonOfTensor(name, tensor)}}`;
    } else {
      pieces.push(Buffer.from(`${text}"data":`), elements);
      text = '}';
    }
  }
  pieces.push(Buffer.from(`${text}]}`));
  const jsonLength = lengthOf(pieces);
  return { pieces: [...pieces, ...binary], jsonLength, byteLength: jsonLength + lengthOf(binary) };
}

/** The outputs that an answer has, and how each is wanted. */
export function wantedOutputs({ outputs, binaryOutputs }: InferRequest, given: Tensors): readonly RequestedOutput[] {
  if (outputs === undefined) return Object.keys(given).map((name) => ({ name, binary: binaryOutputs }));
  const seen = new Set<string>();
  return outputs.filter(({ name }) => !seen.has(name) && seen.add(name));
}

function lengthOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, each) => sum + each.byteLength, 0);
}
