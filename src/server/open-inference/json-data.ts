/** Elements of tensors as JSON: flat or nested arrays in, flat arrays out. */
import { InferkvError } from '../../base/errors.ts';
import {
  byteLengthOf,
  elementCount,
  isStrings,
  numericView,
  type NumericData,
  type Tensor,
  type TensorData,
  type TensorType,
} from '../../base/tensor.ts';

const INTEGER_RANGE: Partial<Readonly<Record<TensorType, readonly [least: number, most: number]>>> = {
  uint8: [0, 2 ** 8 - 1],
  uint16: [0, 2 ** 16 - 1],
  uint32: [0, 2 ** 32 - 1],
  int8: [-(2 ** 7), 2 ** 7 - 1],
  int16: [-(2 ** 15), 2 ** 15 - 1],
  int32: [-(2 ** 31), 2 ** 31 - 1],
};

const INT64_RANGE = { int64: [-(2n ** 63n), 2n ** 63n - 1n], uint64: [0n, 2n ** 64n - 1n] } as const;

const ROUNDING: Partial<Readonly<Record<TensorType, (value: number) => number>>> = {
  float32: Math.fround,
  float16: Math.f16round,
};

const DIGITS = /^-?\d{1,20}$/;
const SHOWN_CHARACTERS = 40;

/** What an element must be, for messages; and the element itself, or `undefined` if it is none of these. */
interface ElementKind {
  readonly what: string;
  read(element: unknown): number | bigint | string | undefined;
}

function integerKind(type: TensorType, [least, most]: readonly [number, number]): ElementKind {
  return {
    what: `a whole number from ${least} to ${most} (${type})`,
    read: (element) =>
      typeof element === 'number' && Number.isInteger(element) && element >= least && element <= most
        ? element
        : undefined,
  };
}

function wideIntegerKind(type: 'int64' | 'uint64'): ElementKind {
  const [least, most] = INT64_RANGE[type];
  return {
    // JSON.parse has rounded such numbers already, and a rounded number is a wrong one.
    what: `a whole number of type ${type}; beyond 2^53 give it as a string of digits, or the tensor as binary data`,
    read: (element) => {
      if (typeof element === 'number' ? !Number.isSafeInteger(element) : !isDigits(element)) return undefined;
      const value = BigInt(element as number | string);
      return value >= least && value <= most ? value : undefined;
    },
  };
}

function isDigits(element: unknown): boolean {
  return typeof element === 'string' && DIGITS.test(element);
}

function kindOf(type: TensorType): ElementKind {
  const range = INTEGER_RANGE[type];
  if (range !== undefined) return integerKind(type, range);
  if (type === 'int64' || type === 'uint64') return wideIntegerKind(type);
  if (type === 'string') {
    return { what: 'a string', read: (element) => (typeof element === 'string' ? element : undefined) };
  }
  if (type === 'bool') {
    return { what: 'true or false', read: (element) => (typeof element === 'boolean' ? Number(element) : undefined) };
  }
  const rounded = ROUNDING[type] ?? Number;
  return {
    what: `a number that ${type} can hold`,
    read: (element) => (typeof element === 'number' && Number.isFinite(rounded(element)) ? element : undefined),
  };
}

/**
 * A tensor from its elements in JSON, which may be one flat array or arrays nested by dimension, both row-major.
 *
 * @throws InferkvError `ERR_INFERKV_INPUT_INVALID` for elements that are of another type, out of range, too few or too many
 */
export function tensorFromJson(name: string, type: TensorType, shape: readonly number[], data: unknown): Tensor {
  if (!Array.isArray(data))
    throw invalid(name, 'must have an array as its "data", or "binary_data_size" in its parameters');
  const expected = elementCount(shape);
  // Counted before anything of that size is allocated: a shape is only a claim.
  const found = countElements(name, data, expected, Math.max(1, shape.length));
  if (found !== expected) {
    const many = found > expected ? 'more' : String(found);
    throw invalid(name, `has ${many} elements where its shape [${shape.join(', ')}] asks for ${expected}`);
  }
  const elements: (number | bigint | string)[] | NumericData =
    type === 'string'
      ? Array.from<string>({ length: expected })
      : numericView(type, shape, new ArrayBuffer(byteLengthOf(type, shape)));
  fill(name, kindOf(type), data, elements as (number | bigint | string)[], 0);
  return { type, shape, data: elements as TensorData };
}

function countElements(name: string, data: readonly unknown[], upTo: number, depth: number): number {
  if (depth === 0) throw invalid(name, 'has arrays nested deeper than its shape has dimensions');
  let count = 0;
  for (const each of data) {
    count += Array.isArray(each) ? countElements(name, each, upTo - count, depth - 1) : 1;
    if (count > upTo) return count;
  }
  return count;
}

function fill(
  name: string,
  kind: ElementKind,
  data: readonly unknown[],
  into: (number | bigint | string)[],
  from: number,
): number {
  let at = from;
  for (const each of data) {
    if (Array.isArray(each)) {
      at = fill(name, kind, each, into, at);
      continue;
    }
    const element = kind.read(each);
    if (element === undefined) {
      const shown = (JSON.stringify(each) ?? 'undefined').slice(0, SHOWN_CHARACTERS);
      throw invalid(name, `has ${shown} as element ${at}, which must be ${kind.what}`);
    }
    into[at++] = element;
  }
  return at;
}

function invalid(name: string, fault: string): InferkvError {
  return new InferkvError('ERR_INFERKV_INPUT_INVALID', `The input "${name}" ${fault}.`, { key: name });
}

/**
 * The elements of a tensor as the text of a flat JSON array; 64-bit integers with all their digits.
 *
 * @throws InferkvError `ERR_INFERKV_OUTPUT_NOT_JSON` for NaN and infinities, which JSON has no way to write
 */
export function jsonOfTensor(name: string, { type, data }: Tensor): string {
  if (isStrings(data)) return JSON.stringify(data);
  if (type === 'bool') return JSON.stringify(Array.from(data as Uint8Array, Boolean));
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return `[${data.join(',')}]`;
  const numbers = data as Float32Array;
  if (!numbers.every(Number.isFinite)) {
    throw new InferkvError(
      'ERR_INFERKV_OUTPUT_NOT_JSON',
      `The output "${name}" holds NaN or an infinity, which JSON cannot express; ask for it as binary data (parameter "binary_data": true).`,
      { key: name },
    );
  }
  return `[${numbers.join(',')}]`;
}
