/** Elements of tensors as bytes: little-endian, row-major, strings with a length of four bytes in front. */
import { InferkvError } from '../../base/errors.ts';
import {
  byteLengthOf,
  bytesOf,
  elementCount,
  ELEMENT_BYTES,
  isStrings,
  numericView,
  type Tensor,
  type TensorType,
} from '../../base/tensor.ts';

const LENGTH_BYTES = 4;

/**
 * A tensor over its bytes, which are referred to where their place in memory suits the type, and copied where not.
 *
 * @throws InferkvError `ERR_INFERKV_INPUT_INVALID` where bytes, type and shape do not fit together
 */
export function tensorFromBytes(name: string, type: TensorType, shape: readonly number[], bytes: Uint8Array): Tensor {
  if (type === 'string') return { type, shape, data: stringsFrom(name, shape, bytes) };
  const expected = byteLengthOf(type, shape);
  if (bytes.byteLength !== expected) {
    throw invalid(
      name,
      `has ${bytes.byteLength} bytes of binary data where its type and shape [${shape.join(', ')}] ask for ${expected}`,
    );
  }
  if (type === 'bool' && bytes.some((each) => each > 1)) {
    throw invalid(name, 'has a byte other than 0 and 1, which a BOOL cannot be');
  }
  // Not by slice(), which for a Buffer copies nothing.
  const aligned = bytes.byteOffset % ELEMENT_BYTES[type] === 0 ? bytes : new Uint8Array(bytes);
  return { type, shape, data: numericView(type, shape, aligned.buffer, aligned.byteOffset) };
}

function stringsFrom(name: string, shape: readonly number[], bytes: Uint8Array): readonly string[] {
  const expected = elementCount(shape);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const strings: string[] = [];
  let at = 0;
  while (at < bytes.byteLength && strings.length < expected) {
    const from = at + LENGTH_BYTES;
    if (from > bytes.byteLength) throw invalid(name, 'ends in the middle of the length of an element');
    const to = from + view.getUint32(at, true);
    if (to > bytes.byteLength) throw invalid(name, `has an element of ${to - from} bytes where fewer are left`);
    try {
      strings.push(decoder.decode(bytes.subarray(from, to)));
    } catch {
      throw invalid(name, `has an element (${strings.length}) that is no UTF-8; other bytes are not supported`);
    }
    at = to;
  }
  if (strings.length === expected && at === bytes.byteLength) return strings;
  throw invalid(name, `does not hold the ${expected} elements of its shape [${shape.join(', ')}] and nothing else`);
}

function invalid(name: string, fault: string): InferkvError {
  return new InferkvError('ERR_INFERKV_INPUT_INVALID', `The input "${name}" ${fault}.`, { key: name });
}

/** The bytes of a tensor; those of numbers are the tensor's own, not copied. */
export function bytesOfTensor({ data }: Tensor): Uint8Array {
  if (!isStrings(data)) return bytesOf(data);
  const parts = data.flatMap((each) => {
    const text = Buffer.from(each, 'utf8');
    const length = Buffer.allocUnsafe(LENGTH_BYTES);
    length.writeUInt32LE(text.byteLength);
    return [length, text];
  });
  return Buffer.concat(parts);
}
