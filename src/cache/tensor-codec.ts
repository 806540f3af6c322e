import { InferkvError } from '../base/errors.ts';
import {
  byteLengthOf,
  bytesOf,
  isStrings,
  numericView,
  TYPE_NUMBER,
  type Tensor,
  type Tensors,
  type TensorType,
} from '../base/tensor.ts';
import type { EncodedValue, ValueCodec } from './value-codec.ts';

/** Each tensor's elements begin at a multiple of this, so that any typed array and any vector instruction suits them. */
const ALIGNMENT = 64;
const FORMAT = 1;
const HEADER_BYTES = 4;
/** Type and number of dimensions, length of the name, offset, and bytes of the elements. */
const TENSOR_BYTES = 2 + 2 + 8 + 8;
const DIMENSION_BYTES = 8;
const MAX_TENSORS = 0xffff;
const MAX_DIMENSIONS = 0xff;
// The top bit of a string's length.
const UTF16 = 0x8000_0000;
const encoder = new TextEncoder();
// A byte order mark is part of a text here.
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

const TYPE_OF_NUMBER: ReadonlyMap<number, TensorType> = new Map(
  Object.entries(TYPE_NUMBER).map(([type, number]) => [number, type as TensorType]),
);

interface Placed {
  readonly name: Uint8Array;
  readonly tensor: Tensor;
  readonly offset: number;
  readonly lengthBytes: number;
  /** Strings as UTF-8. */
  readonly texts: readonly WrittenText[] | undefined;
}

interface WrittenText {
  readonly bytes: Uint8Array;
  readonly isUtf16: boolean;
}

/**
 * Tensors as one value: their elements one after the other, what they are in the metadata.
 *
 * ```
 *   metadata  | format, 16 bits | tensors, 16 bits | each tensor: type | dimensions | bytes of the name, 16 bits |
 *             |   offset, 64-bit float | bytes, 64-bit float | sizes of the dimensions, 64-bit floats | name in UTF-8 |
 *   value     | elements of the first | to a multiple of 64 | elements of the second | ...
 *   strings   | length, 31 bits, and 1 if UTF-16 | UTF-8, or UTF-16 where half a surrogate pair has no UTF-8 | ... |
 * ```
 *
 * All numbers are little-endian.
 */
export const tensorCodec: ValueCodec<Tensors> = { encode, decode };

/** @throws InferkvError `ERR_INFERKV_INPUT_INVALID` for tensors that cannot be written */
function encode(tensors: Tensors): EncodedValue {
  const placed: Placed[] = [];
  let at = 0;
  for (const [name, tensor] of Object.entries(tensors)) {
    const texts = isStrings(tensor.data) ? tensor.data.map((text) => written(text)) : undefined;
    const lengthBytes =
      texts?.reduce((sum, { bytes }) => sum + 4 + bytes.length, 0) ??
      (tensor.data as { byteLength: number }).byteLength;
    placed.push({ name: utf8(name), tensor, offset: at, lengthBytes, texts });
    at += Math.ceil(lengthBytes / ALIGNMENT) * ALIGNMENT;
  }
  const last = placed.at(-1);
  return {
    lengthBytes: last === undefined ? 0 : last.offset + last.lengthBytes,
    metadata: metadataOf(placed),
    write: (into) => {
      for (const { tensor, offset, texts } of placed) {
        if (texts !== undefined) writeTexts(into, offset, texts);
        else if (!isStrings(tensor.data)) into.set(bytesOf(tensor.data), offset);
      }
    },
  };
}

/** What a tensor is, without its elements; not for strings, whose bytes are their own. */
export interface TensorForm {
  readonly type: Exclude<TensorType, 'string'>;
  readonly shape: readonly number[];
}

/** The form of a value of such tensors, for a draft. */
export function tensorsForm(
  forms: Readonly<Record<string, TensorForm>>,
): Pick<EncodedValue, 'lengthBytes' | 'metadata'> {
  const placed: Placed[] = [];
  let at = 0;
  for (const [name, { type, shape }] of Object.entries(forms)) {
    const lengthBytes = byteLengthOf(type, shape);
    // The metadata says nothing of the elements.
    placed.push({ name: utf8(name), tensor: { type, shape, data: [] }, offset: at, lengthBytes, texts: undefined });
    at += Math.ceil(lengthBytes / ALIGNMENT) * ALIGNMENT;
  }
  const last = placed.at(-1);
  return { lengthBytes: last === undefined ? 0 : last.offset + last.lengthBytes, metadata: metadataOf(placed) };
}

function utf8(text: string): Uint8Array {
  if (!text.isWellFormed()) throw invalid('a name is no valid Unicode');
  return encoder.encode(text);
}

function written(text: string): WrittenText {
  const isUtf16 = !text.isWellFormed();
  return { bytes: isUtf16 ? Buffer.from(text, 'utf16le') : encoder.encode(text), isUtf16 };
}

function writeTexts(into: Uint8Array, offset: number, texts: readonly WrittenText[]): void {
  const view = new DataView(into.buffer, into.byteOffset, into.byteLength);
  let at = offset;
  for (const { bytes, isUtf16 } of texts) {
    view.setUint32(at, bytes.length | (isUtf16 ? UTF16 : 0), true);
    into.set(bytes, at + 4);
    at += 4 + bytes.length;
  }
}

function metadataOf(placed: readonly Placed[]): Uint8Array {
  const lengthBytes = placed.reduce(
    (sum, { name, tensor }) => sum + TENSOR_BYTES + DIMENSION_BYTES * tensor.shape.length + name.length,
    HEADER_BYTES,
  );
  if (placed.length > MAX_TENSORS) throw invalid(`there are ${placed.length}`);
  const metadata = new Uint8Array(lengthBytes);
  const view = new DataView(metadata.buffer);
  view.setUint16(0, FORMAT, true);
  view.setUint16(2, placed.length, true);
  let at = HEADER_BYTES;
  for (const { name, tensor, offset, lengthBytes: bytes } of placed) {
    const { shape, type } = tensor;
    if (shape.length > MAX_DIMENSIONS || name.length > 0xffff) throw invalid('a name or a shape is too long');
    view.setUint8(at, TYPE_NUMBER[type]);
    view.setUint8(at + 1, shape.length);
    view.setUint16(at + 2, name.length, true);
    view.setFloat64(at + 4, offset, true);
    view.setFloat64(at + 12, bytes, true);
    at += TENSOR_BYTES;
    for (const size of shape) {
      view.setFloat64(at, size, true);
      at += DIMENSION_BYTES;
    }
    metadata.set(name, at);
    at += name.length;
  }
  return metadata;
}

/** Tensors over these bytes; strings are copied out. Frozen, as every reader of an entry gets the same ones. */
function decode(bytes: Uint8Array, metadata: Uint8Array): Tensors {
  const view = new DataView(metadata.buffer, metadata.byteOffset, metadata.byteLength);
  if (metadata.length < HEADER_BYTES || view.getUint16(0, true) !== FORMAT) throw unreadable();
  const tensors: [string, Tensor][] = [];
  let at = HEADER_BYTES;
  for (let left = view.getUint16(2, true); left > 0; left--) {
    if (at + TENSOR_BYTES > metadata.length) throw unreadable();
    const type = TYPE_OF_NUMBER.get(view.getUint8(at));
    const dimensions = view.getUint8(at + 1);
    const nameAt = at + TENSOR_BYTES + dimensions * DIMENSION_BYTES;
    const end = nameAt + view.getUint16(at + 2, true);
    const offset = view.getFloat64(at + 4, true);
    const lengthBytes = view.getFloat64(at + 12, true);
    if (type === undefined || end > metadata.length || !isWithin(bytes, offset, lengthBytes)) throw unreadable();
    const shape = Array.from({ length: dimensions }, (_, each) =>
      view.getFloat64(at + TENSOR_BYTES + each * DIMENSION_BYTES, true),
    );
    // A text decoder takes no shared memory.
    const name = decoder.decode(metadata.slice(nameAt, end));
    tensors.push([name, decodeTensor(type, shape, bytes.subarray(offset, offset + lengthBytes))]);
    at = end;
  }
  return Object.freeze(Object.fromEntries(tensors));
}

function isWithin(bytes: Uint8Array, offset: number, lengthBytes: number): boolean {
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(lengthBytes) || offset < 0 || lengthBytes < 0)
    return false;
  return offset % ALIGNMENT === 0 && offset + lengthBytes <= bytes.length;
}

function decodeTensor(type: TensorType, shape: readonly number[], bytes: Uint8Array): Tensor {
  Object.freeze(shape);
  if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0)) throw unreadable();
  if (type === 'string') return Object.freeze({ type, shape, data: readTexts(bytes, shape) });
  if (byteLengthOf(type, shape) !== bytes.length) throw unreadable();
  return Object.freeze({ type, shape, data: numericView(type, shape, bytes.buffer, bytes.byteOffset) });
}

function readTexts(bytes: Uint8Array, shape: readonly number[]): readonly string[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const texts: string[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (at + 4 > bytes.length) throw unreadable();
    const length = view.getUint32(at, true);
    const end = at + 4 + (length & ~UTF16);
    if (end > bytes.length) throw unreadable();
    const text = bytes.slice(at + 4, end);
    texts.push(length >= UTF16 ? Buffer.from(text.buffer).toString('utf16le') : decoder.decode(text));
    at = end;
  }
  if (texts.length !== shape.reduce((product, size) => product * size, 1)) throw unreadable();
  Object.freeze(texts);
  return texts;
}

function invalid(why: string): InferkvError {
  return new InferkvError('ERR_INFERKV_INPUT_INVALID', `The tensors cannot be written to memory: ${why}.`);
}

function unreadable(): InferkvError {
  return new InferkvError('ERR_INFERKV_INPUT_INVALID', 'These bytes are no tensors, or are cut off.');
}
