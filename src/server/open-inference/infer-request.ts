import { z } from 'zod';

import { InferkvError, messageOf } from '../../base/errors.ts';
import type { Tensor, Tensors, TensorType } from '../../base/tensor.ts';
import { tensorFromBytes } from './binary-data.ts';
import { TYPE_OF_DATATYPE } from './datatypes.ts';
import { tensorFromJson } from './json-data.ts';

/** Values a parameter may have in the protocol. */
type ParameterValue = string | number | boolean;

/** One output asked for. */
export interface RequestedOutput {
  readonly name: string;
  /** Whether it is wanted as bytes behind the JSON. */
  readonly binary: boolean;
}

/** An inference request as the protocol has it, decoded. */
export interface InferRequest {
  readonly id: string | undefined;
  readonly inputs: Tensors;
  /** In the order asked for; `undefined` for all. */
  readonly outputs: readonly RequestedOutput[] | undefined;
  /** Whether outputs that say nothing of their own are wanted as bytes. */
  readonly binaryOutputs: boolean;
  /** Milliseconds until the sender stops waiting (the parameter `timeout`, in microseconds). */
  readonly deadlineMs: number | undefined;
  /** What else the request was given. */
  readonly parameters: Readonly<Record<string, ParameterValue>>;
}

const MAX_RANK = 64;
const MAX_ID_LENGTH = 1024;

const parameters = z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]));
const dimension = z.number().int().nonnegative();

// Further fields are allowed: clients put the model's name in, and the protocol grows.
const requestSchema = z.object({
  id: z.string().max(MAX_ID_LENGTH).optional(),
  parameters: parameters.optional(),
  inputs: z.array(
    z.object({
      name: z.string().min(1),
      shape: z.array(dimension).max(MAX_RANK),
      datatype: z.string(),
      parameters: parameters.optional(),
      data: z.unknown().optional(),
    }),
  ),
  outputs: z.array(z.object({ name: z.string().min(1), parameters: parameters.optional() })).optional(),
});

type ParsedRequest = z.infer<typeof requestSchema>;
type ParsedInput = ParsedRequest['inputs'][number];

/** Takes the binary tensors from what follows the JSON, one behind the other. */
class BinarySection {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  take(name: string, size: number): Uint8Array {
    const left = this.#bytes.byteLength - this.#at;
    if (size > left) {
      throw bodyInvalid(`The input "${name}" claims ${size} bytes of binary data, and the body has only ${left} left`);
    }
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  assertEmpty(): void {
    const left = this.#bytes.byteLength - this.#at;
    if (left > 0) throw bodyInvalid(`The body has ${left} bytes behind the last binary tensor that no input claims`);
  }
}

/**
 * Decodes the body of an inference request. Binary tensors are views of the body where their place allows.
 *
 * @param jsonLength bytes of the JSON at the beginning (`Inference-Header-Content-Length`); the whole body if `undefined`
 * @throws InferkvError `ERR_INFERKV_BODY_INVALID`, `ERR_INFERKV_INPUT_INVALID`
 */
export function decodeInferRequest(body: Uint8Array, jsonLength: number | undefined): InferRequest {
  if (jsonLength !== undefined && jsonLength > body.byteLength) {
    throw bodyInvalid(
      `Inference-Header-Content-Length says ${jsonLength} bytes of JSON, and the whole body has ${body.byteLength}`,
    );
  }
  const request = parse(body.subarray(0, jsonLength));
  const binary = new BinarySection(body.subarray(jsonLength ?? body.byteLength));
  const inputs: Record<string, Tensor> = {};
  for (const input of request.inputs) {
    if (Object.hasOwn(inputs, input.name)) throw bodyInvalid(`The input "${input.name}" is given twice`);
    // A name like __proto__ becomes a name like any other.
    Object.defineProperty(inputs, input.name, { value: tensorOf(input, binary), enumerable: true });
  }
  binary.assertEmpty();
  const { binary_data_output: binaryOutputs, timeout, ...rest } = request.parameters ?? {};
  return {
    id: request.id,
    inputs,
    outputs: outputsOf(request, binaryOutputs === true),
    binaryOutputs: binaryOutputs === true,
    deadlineMs: deadlineOf(timeout),
    parameters: rest,
  };
}

function parse(json: Uint8Array): ParsedRequest {
  let content: unknown;
  try {
    content = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch (error) {
    throw bodyInvalid(`The request is no JSON: ${messageOf(error)}`, error);
  }
  const checked = requestSchema.safeParse(content);
  if (checked.success) return checked.data;
  const faults = checked.error.issues.map(({ path, message }) => `${path.join('.') || 'request'}: ${message}`);
  throw bodyInvalid(`The request is not valid: ${faults.slice(0, 5).join('; ')}`, checked.error);
}

function tensorOf({ name, datatype, shape, data, parameters: given }: ParsedInput, binary: BinarySection): Tensor {
  const type = typeOf(name, datatype);
  refuseUnsupported(`input "${name}"`, given);
  const size = given?.['binary_data_size'];
  if (size === undefined) return tensorFromJson(name, type, shape, data);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw bodyInvalid(
      `The input "${name}" has ${JSON.stringify(size)} as binary_data_size; it must be a number of bytes`,
    );
  }
  if (data !== undefined)
    throw bodyInvalid(`The input "${name}" has both "data" and binary_data_size; give one of them`);
  return tensorFromBytes(name, type, shape, binary.take(name, size));
}

function typeOf(name: string, datatype: string): TensorType {
  const type = Object.hasOwn(TYPE_OF_DATATYPE, datatype) ? TYPE_OF_DATATYPE[datatype] : undefined;
  if (type !== undefined) return type;
  throw bodyInvalid(
    `The input "${name}" has the unknown datatype ${JSON.stringify(datatype).slice(0, 40)}; there are ${Object.keys(TYPE_OF_DATATYPE).join(', ')}`,
  );
}

function outputsOf({ outputs }: ParsedRequest, binaryByDefault: boolean): readonly RequestedOutput[] | undefined {
  return outputs?.map(({ name, parameters: given }) => {
    refuseUnsupported(`output "${name}"`, given);
    const binary = given?.['binary_data'];
    return { name, binary: typeof binary === 'boolean' ? binary : binaryByDefault };
  });
}

const UNSUPPORTED = ['classification', 'shared_memory_region'];

/** Extensions that change what is asked for: to overlook them would be to answer another question. */
function refuseUnsupported(what: string, given: Readonly<Record<string, ParameterValue>> | undefined): void {
  const found = UNSUPPORTED.find((name) => given?.[name] !== undefined);
  if (found !== undefined)
    throw bodyInvalid(`The ${what} asks for "${found}", an extension that this server does not have`);
}

function deadlineOf(timeout: ParameterValue | undefined): number | undefined {
  if (timeout === undefined || timeout === 0) return undefined;
  if (typeof timeout === 'number' && timeout > 0) return timeout / 1000;
  throw bodyInvalid('The parameter "timeout" must be a number of microseconds from 0 up');
}

function bodyInvalid(fault: string, cause?: unknown): InferkvError {
  return new InferkvError('ERR_INFERKV_BODY_INVALID', `${fault}.`, { cause });
}
