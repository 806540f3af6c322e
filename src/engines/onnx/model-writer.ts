/**
 * Writes ONNX model files: the few messages a graph of nodes, constants and typed inputs and outputs needs.
 *
 * Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
 */
import { open } from 'node:fs/promises';

import { TYPE_NUMBER, type TensorType } from '../../base/tensor.ts';
import { bytes, float, int, message, nested, packedInts, type Message } from './wire.ts';

/** An attribute of a node: an integer, integers, `{ float }` or text. */
export type Attribute = number | readonly number[] | { readonly float: number } | string;

/** A dimension: a size, or the name of a symbolic one. */
export type Dimension = number | string;

const ATTRIBUTE_FLOAT = 1;
const ATTRIBUTE_INT = 2;
const ATTRIBUTE_STRING = 3;
const ATTRIBUTE_INTS = 7;

// The first versions that have every element type.
const IR_VERSION = 10;
const OPSET = 21;

function attribute(name: string, content: Attribute): Message {
  const named = bytes(1, name);
  if (typeof content === 'number') return message(named, int(3, content), int(20, ATTRIBUTE_INT));
  if (typeof content === 'string') return message(named, bytes(4, content), int(20, ATTRIBUTE_STRING));
  if ('float' in content) return message(named, float(2, content.float), int(20, ATTRIBUTE_FLOAT));
  return message(named, ...content.map((each) => int(8, each)), int(20, ATTRIBUTE_INTS));
}

/** One node of a graph. */
export function node(
  operator: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes: Readonly<Record<string, Attribute>> = {},
): Message {
  return message(
    ...inputs.map((name) => bytes(1, name)),
    ...outputs.map((name) => bytes(2, name)),
    bytes(3, outputs[0] ?? operator),
    bytes(4, operator),
    ...Object.entries(attributes).map(([name, content]) => nested(5, attribute(name, content))),
  );
}

/** A constant of a graph; `data` is little-endian and is referred to, not copied. */
export function constant(name: string, type: TensorType, shape: readonly number[], data: ArrayBufferView): Message {
  return message(
    packedInts(1, shape),
    int(2, TYPE_NUMBER[type]),
    bytes(8, name),
    bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
  );
}

/** A constant whose bytes lie in a file beside the model (ONNX external data). */
export function externalConstant(name: string, type: TensorType, shape: readonly number[], location: string): Message {
  const EXTERNAL = 1;
  return message(
    packedInts(1, shape),
    int(2, TYPE_NUMBER[type]),
    bytes(8, name),
    nested(13, message(bytes(1, 'location'), bytes(2, location))),
    int(14, EXTERNAL),
  );
}

/** An input or an output of a graph. */
export function value(name: string, type: TensorType, shape: readonly Dimension[]): Message {
  const dimensions = shape.map((size) => nested(1, typeof size === 'number' ? int(1, size) : bytes(2, size)));
  const tensorType = message(int(1, TYPE_NUMBER[type]), nested(2, message(...dimensions)));
  return message(bytes(1, name), nested(2, nested(1, tensorType)));
}

/** What a graph is made of. */
export interface GraphParts {
  readonly name: string;
  readonly nodes: readonly Message[];
  readonly constants: readonly Message[];
  readonly inputs: readonly Message[];
  readonly outputs: readonly Message[];
}

/** A whole model, ready to be written. */
export function model(parts: GraphParts): Message {
  const graph = message(
    ...parts.nodes.map((each) => nested(1, each)),
    bytes(2, parts.name),
    ...parts.constants.map((each) => nested(5, each)),
    ...parts.inputs.map((each) => nested(11, each)),
    ...parts.outputs.map((each) => nested(12, each)),
  );
  return message(int(1, IR_VERSION), bytes(2, 'inferkv'), nested(7, graph), nested(8, int(2, OPSET)));
}

/** Writes a model to a file, chunk by chunk. */
export async function writeModel(path: string, encoded: Message): Promise<void> {
  const file = await open(path, 'w');
  try {
    let small: Uint8Array[] = [];
    let smallBytes = 0;
    const flush = async (): Promise<void> => {
      if (smallBytes > 0) await file.write(Buffer.concat(small));
      small = [];
      smallBytes = 0;
    };
    for (const chunk of encoded.chunks) {
      if (chunk.byteLength < 65_536) {
        small.push(chunk);
        smallBytes += chunk.byteLength;
      } else {
        await flush();
        await file.write(chunk);
      }
    }
    await flush();
  } finally {
    await file.close();
  }
}

/** A model as one run of bytes; for small ones. */
export function encodeModel(encoded: Message): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(encoded.chunks));
}
