import { InferkvError } from './errors.ts';

/** Element types, by their names in ONNX Runtime. */
export type TensorType = keyof typeof ELEMENT_BYTES;

/** Bytes an element takes; strings have none of their own, 4-bit numbers lie two in a byte. */
export const ELEMENT_BYTES = {
  float32: 4,
  float64: 8,
  float16: 2,
  int8: 1,
  uint8: 1,
  int16: 2,
  uint16: 2,
  int32: 4,
  uint32: 4,
  int64: 8,
  uint64: 8,
  bool: 1,
  int4: 0.5,
  uint4: 0.5,
  string: 0,
} as const;

/** Element types by their numbers in ONNX; part of the format of request keys (docs/request-key.md). */
export const TYPE_NUMBER: Readonly<Record<TensorType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
  uint4: 21,
  int4: 22,
};

/** Elements of a numeric tensor, row-major; `bool` lies in a `Uint8Array` as 0 and 1. */
export type NumericData =
  | Float32Array
  | Float64Array
  | Float16Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** Elements of any tensor. */
export type TensorData = NumericData | readonly string[];

/** An array of numbers with a type and a shape, row-major, on the CPU. */
export interface Tensor {
  readonly type: TensorType;
  /** Sizes of the dimensions, outermost first; `[]` is a scalar. */
  readonly shape: readonly number[];
  readonly data: TensorData;
}

/** Tensors by name. */
export type Tensors = Readonly<Record<string, Tensor>>;

type NumericConstructor = new (buffer: ArrayBufferLike, byteOffset?: number, length?: number) => NumericData;

const CONSTRUCTORS: Readonly<Record<Exclude<TensorType, 'string'>, NumericConstructor>> = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Float16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
  int4: Uint8Array,
  uint4: Uint8Array,
};

const TYPE_OF_CONSTRUCTOR = new Map<unknown, TensorType>(
  Object.entries(CONSTRUCTORS)
    .filter(([type]) => type !== 'bool' && type !== 'int4' && type !== 'uint4')
    .map(([type, constructor]) => [constructor, type as TensorType]),
);

/** How many elements a shape has. */
export function elementCount(shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) count *= size;
  return count;
}

/** Bytes that the elements of a numeric tensor take; 0 for strings, whose bytes are their own. */
export function byteLengthOf(type: TensorType, shape: readonly number[]): number {
  return Math.ceil(elementCount(shape) * ELEMENT_BYTES[type]);
}

/** Whether `name` is an element type. */
export function isTensorType(name: unknown): name is TensorType {
  return typeof name === 'string' && Object.hasOwn(ELEMENT_BYTES, name);
}

/** A typed array for `type` over existing bytes; `byteOffset` must suit the element's size. */
export function numericView(
  type: Exclude<TensorType, 'string'>,
  shape: readonly number[],
  buffer: ArrayBufferLike,
  byteOffset = 0,
): NumericData {
  const elements = ELEMENT_BYTES[type] === 0.5 ? byteLengthOf(type, shape) : elementCount(shape);
  return new CONSTRUCTORS[type](buffer, byteOffset, elements);
}

/** The bytes of numeric data, not copied. */
export function bytesOf(data: NumericData): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** Whether the data holds strings. */
export function isStrings(data: TensorData): data is readonly string[] {
  return Array.isArray(data);
}

/**
 * A tensor over `data`, which is referred to and not copied. The type follows from the array; `bool`, `int4` and
 * `uint4` must be named.
 *
 * @param shape sizes of the dimensions; one dimension with all elements if left out
 * @throws InferkvError `ERR_INFERKV_INPUT_INVALID` where data, type and shape do not fit together
 */
export function tensor(data: TensorData, shape: readonly number[] = [data.length], type?: TensorType): Tensor {
  const made = { type: type ?? typeOf(data), shape, data };
  const fault = tensorFault(made);
  if (fault !== undefined) throw new InferkvError('ERR_INFERKV_INPUT_INVALID', `The tensor ${fault}.`);
  return made;
}

function typeOf(data: TensorData): TensorType {
  const type = isStrings(data) ? 'string' : TYPE_OF_CONSTRUCTOR.get(data.constructor);
  if (type !== undefined) return type;
  throw new InferkvError(
    'ERR_INFERKV_INPUT_INVALID',
    'The data of a tensor must be a typed array or an array of strings.',
  );
}

/** What is wrong with a tensor from outside, as the end of a sentence; `undefined` if nothing is. */
export function tensorFault(candidate: unknown): string | undefined {
  if (typeof candidate !== 'object' || candidate === null) return 'must be an object {type, shape, data}';
  const { type, shape, data } = candidate as Partial<Record<keyof Tensor, unknown>>;
  if (!isTensorType(type)) return `has the unknown type ${JSON.stringify(type) ?? 'undefined'}`;
  if (!Array.isArray(shape)) return 'has no shape';
  for (const size of shape as unknown[]) {
    if (!Number.isSafeInteger(size) || (size as number) < 0) {
      return `has the shape [${shape.join(', ')}], whose dimensions must be whole numbers from 0 up`;
    }
  }
  const elements = elementCount(shape as number[]);
  if (!Number.isSafeInteger(elements)) return `has the shape [${shape.join(', ')}], which is too large`;
  return dataFault(type, elements, data, shape as number[]);
}

function dataFault(type: TensorType, elements: number, data: unknown, shape: readonly number[]): string | undefined {
  if (type === 'string') {
    if (!Array.isArray(data)) return 'of type string must have an array of strings as data';
    if (!data.every((each) => typeof each === 'string')) return 'of type string has an element that is no string';
  } else if (!(data instanceof CONSTRUCTORS[type])) {
    return `of type ${type} must have a ${CONSTRUCTORS[type].name} as data`;
  }
  const expected = ELEMENT_BYTES[type] === 0.5 ? Math.ceil(elements / 2) : elements;
  const { length } = data as TensorData;
  if (length === expected) return undefined;
  return `has ${length} elements where its shape [${shape.join(', ')}] asks for ${expected}`;
}

/** A private copy: shares no bytes with the original. */
function copyTensor({ type, shape, data }: Tensor): Tensor {
  return {
    type,
    shape: [...shape],
    data: isStrings(data) ? [...data] : (data.slice() as NumericData),
  };
}

/** Whether other threads can write to a tensor. */
export function isShared({ data }: Tensor): boolean {
  return !isStrings(data) && data.buffer instanceof SharedArrayBuffer;
}

/** The same tensors with private copies of those that other threads can write to. */
export function unshared(tensors: Tensors): Tensors {
  if (!Object.values(tensors).some(isShared)) return tensors;
  return Object.fromEntries(
    Object.entries(tensors).map(([name, each]) => [name, isShared(each) ? copyTensor(each) : each]),
  );
}

/** Private copies of all. */
export function copyTensors(tensors: Tensors): Tensors {
  return Object.fromEntries(Object.entries(tensors).map(([name, each]) => [name, copyTensor(each)]));
}

// A string in V8: a header and one or two bytes a character; two is the safe side.
const STRING_OVERHEAD_BYTES = 16;

/** Bytes a tensor holds on to: its elements, or an upper estimate of its strings. */
export function tensorBytes({ data }: Tensor): number {
  if (!isStrings(data)) return data.byteLength;
  return data.reduce((sum, each) => sum + STRING_OVERHEAD_BYTES + 2 * each.length, 0);
}
