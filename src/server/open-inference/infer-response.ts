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

/** The body of an answer, in the pieces in which it is sent. */
export interface EncodedResponse {
  readonly json: Buffer;
  /** Bytes of the binary outputs, in their order; views of the outputs themselves where these are numbers. */
  readonly binary: readonly Uint8Array[];
  /** Bytes of all. */
  readonly byteLength: number;
}

/**
 * Encodes an answer. Outputs come in the order in which they were asked for; those wanted as bytes follow the JSON.
 *
 * @throws InferkvError `ERR_INFERKV_OUTPUT_NOT_JSON`
 */
export function encodeInferResponse(model: Answering, request: InferRequest, outputs: Tensors): EncodedResponse {
  const binary: Uint8Array[] = [];
  const encoded = wantedOutputs(request, outputs).map(({ name, binary: asBytes }) => {
    const tensor = outputs[name] as Tensor;
    const head = `{"name":${JSON.stringify(name)},"datatype":"${datatypeOf(tensor.type)}","shape":[${tensor.shape.join(',')}]`;
    if (!asBytes) return `${head},"data":${jsonOfTensor(name, tensor)}}`;
    const bytes = bytesOfTensor(tensor);
    binary.push(bytes);
    return `${head},"parameters":{"binary_data_size":${bytes.byteLength}}}`;
  });
  const fields = [
    `"model_name":${JSON.stringify(model.name)}`,
    ...(model.version === undefined ? [] : [`"model_version":${JSON.stringify(model.version)}`]),
    ...(request.id === undefined ? [] : [`"id":${JSON.stringify(request.id)}`]),
    `"outputs":[${encoded.join(',')}]`,
  ];
  const json = Buffer.from(`{${fields.join(',')}}`, 'utf8');
  const byteLength = binary.reduce((sum, each) => sum + each.byteLength, json.byteLength);
  return { json, binary, byteLength };
}

function wantedOutputs({ outputs, binaryOutputs }: InferRequest, given: Tensors): readonly RequestedOutput[] {
  if (outputs === undefined) return Object.keys(given).map((name) => ({ name, binary: binaryOutputs }));
  const seen = new Set<string>();
  return outputs.filter(({ name }) => !seen.has(name) && seen.add(name));
}
