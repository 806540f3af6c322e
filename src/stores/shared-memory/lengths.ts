import { InferkvError } from '../../base/errors.ts';
import { entryUnits } from './layout.ts';

const MAX_METADATA_BYTES = 0xffff;

/** @throws InferkvError `ERR_INFERKV_INPUT_INVALID` for lengths that no value, and no metadata, can have */
export function checkLengths(lengthBytes: number, metadataBytes: number): void {
  if (!isLength(lengthBytes)) {
    throw new InferkvError('ERR_INFERKV_INPUT_INVALID', `A value cannot be ${lengthBytes} bytes long.`);
  }
  if (!isLength(metadataBytes) || metadataBytes > MAX_METADATA_BYTES) {
    throw new InferkvError(
      'ERR_INFERKV_INPUT_INVALID',
      `Metadata can be ${MAX_METADATA_BYTES} bytes long; this is ${metadataBytes}. Put it into the value.`,
    );
  }
}

/** Whether a value of that length, and its metadata, find room in so many units; lengths that cannot be never do. */
export function doFit(lengthBytes: number, metadataBytes: number, units: number): boolean {
  return (
    isLength(lengthBytes) && metadataBytes <= MAX_METADATA_BYTES && entryUnits(lengthBytes, metadataBytes) <= units
  );
}

function isLength(bytes: number): boolean {
  return Number.isSafeInteger(bytes) && bytes >= 0;
}
