/** NumPy's file format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
import { InferkvError } from '../base/errors.ts';
import {
  byteLengthOf,
  bytesOf,
  ELEMENT_BYTES,
  elementCount,
  isStrings,
  numericView,
  type Tensor,
  type TensorType,
} from '../base/tensor.ts';

const MAGIC = Buffer.from('\u0093NUMPY', 'latin1');
const ALIGNMENT = 64;

const TYPE_OF_DESCR: Readonly<Record<string, Exclude<TensorType, 'string'>>> = {
  f2: 'float16',
  f4: 'float32',
  f8: 'float64',
  i1: 'int8',
  i2: 'int16',
  i4: 'int32',
  i8: 'int64',
  u1: 'uint8',
  u2: 'uint16',
  u4: 'uint32',
  u8: 'uint64',
  b1: 'bool',
};

const DESCR_OF_TYPE = new Map<TensorType, string>(Object.entries(TYPE_OF_DESCR).map(([descr, type]) => [type, descr]));

/**
 * A tensor from the bytes of an `.npy` file, of versions 1 to 3: numbers and booleans, little-endian, in C order.
 *
 * @throws InferkvError `ERR_INFERKV_INPUT_INVALID`
 */
export function decodeNpy(path: string, bytes: Buffer): Tensor {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw invalid(path, 'is no .npy file');
  const major = bytes[MAGIC.length] ?? 0;
  const lengthAt = MAGIC.length + 2;
  const from = lengthAt + (major === 1 ? 2 : 4);
  if (bytes.length < from) throw invalid(path, 'is cut short');
  const dataAt = from + (major === 1 ? bytes.readUInt16LE(lengthAt) : bytes.readUInt32LE(lengthAt));
  const header = bytes.toString('latin1', from, dataAt);
  const descr = /'descr':\s*'(?<order>[<>|=])(?<descr>\w+)'/.exec(header)?.groups;
  const shapeText = /'shape':\s*\((?<shape>[\d,\sL]*)\)/.exec(header)?.groups?.['shape'];
  const type = TYPE_OF_DESCR[descr?.['descr'] ?? ''];
  if (type === undefined || shapeText === undefined)
    throw invalid(path, `has elements that are not read here (${header.trim().slice(0, 80)})`);
  if (descr?.['order'] === '>' && ELEMENT_BYTES[type] > 1) throw invalid(path, 'is big-endian; save it little-endian');
  const shape = shapeText
    .split(',')
    .filter((each) => each.trim() !== '')
    .map((each) => Number.parseInt(each, 10));
  if (/'fortran_order':\s*True/.test(header) && shape.length > 1) {
    throw invalid(path, 'is in Fortran order; save numpy.ascontiguousarray(x)');
  }
  const data = bytes.subarray(dataAt);
  const expected = byteLengthOf(type, shape);
  if (!Number.isSafeInteger(elementCount(shape)) || data.length !== expected) {
    throw invalid(
      path,
      `holds ${data.length} bytes of data where its shape [${shape.join(', ')}] asks for ${expected}`,
    );
  }
  return { type, shape, data: numericView(type, shape, Uint8Array.from(data).buffer) };
}

/** A tensor of numbers as the bytes of an `.npy` file, version 1. */
export function encodeNpy(name: string, { type, shape, data }: Tensor): Buffer {
  const descr = DESCR_OF_TYPE.get(type);
  if (descr === undefined || isStrings(data)) throw invalid(name, `is of type ${type}, which .npy files do not hold`);
  const order = ELEMENT_BYTES[type] === 1 ? '|' : '<';
  const shapeText = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const header = `{'descr': '${order}${descr}', 'fortran_order': False, 'shape': (${shapeText}), }`;
  const head = MAGIC.length + 4;
  const length = Math.ceil((head + header.length + 1) / ALIGNMENT) * ALIGNMENT - head;
  const prefix = Buffer.alloc(head);
  MAGIC.copy(prefix);
  prefix.writeUInt8(1, MAGIC.length);
  prefix.writeUInt16LE(length, MAGIC.length + 2);
  return Buffer.concat([prefix, Buffer.from(`${header.padEnd(length - 1)}\n`, 'latin1'), bytesOf(data)]);
}

function invalid(path: string, fault: string): InferkvError {
  return new InferkvError('ERR_INFERKV_INPUT_INVALID', `${path} ${fault}.`, { key: path });
}
