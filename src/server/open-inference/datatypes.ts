import type { TensorType } from '../../base/tensor.ts';

/** Element types by their names in the Open Inference Protocol. */
export const TYPE_OF_DATATYPE: Readonly<Record<string, TensorType>> = {
  BOOL: 'bool',
  UINT8: 'uint8',
  UINT16: 'uint16',
  UINT32: 'uint32',
  UINT64: 'uint64',
  INT8: 'int8',
  INT16: 'int16',
  INT32: 'int32',
  INT64: 'int64',
  FP16: 'float16',
  FP32: 'float32',
  FP64: 'float64',
  BYTES: 'string',
};

const DATATYPE_OF_TYPE = new Map(Object.entries(TYPE_OF_DATATYPE).map(([datatype, type]) => [type, datatype]));

/** The protocol's name of an element type; 4-bit types, which it lacks, go by their names in upper case. */
export function datatypeOf(type: TensorType): string {
  return DATATYPE_OF_TYPE.get(type) ?? type.toUpperCase();
}
