import type { ValueCodec } from '../../src/cache/value-codec.ts';
import type { Box } from '../contracts/partition.ts';

const SIZE_BYTES = 10;
const METADATA_BYTES = 4040;
const ENTRY_BYTES = 4096;

/** Bytes of shared memory that an entry of 10 bytes takes besides these: the arena of one entry is the least there can be. */
export const BOX_OVERHEAD_BYTES: number = ENTRY_BYTES - SIZE_BYTES;

/** A box as bytes: the length of its text, the text, and zeros. */
export const boxCodec: ValueCodec<Box> = {
  encode({ text, sizeBytes }) {
    const bytes = new TextEncoder().encode(text);
    const lengthBytes = Math.max(sizeBytes, bytes.length + 1);
    return {
      lengthBytes,
      metadata: new Uint8Array(METADATA_BYTES),
      write(into) {
        into.fill(0);
        into[0] = bytes.length;
        into.set(bytes, 1);
      },
    };
  },
  decode(bytes) {
    return {
      // Read when it is asked for, so that a test sees what lies there then.
      get text() {
        return new TextDecoder().decode(bytes.slice(1, 1 + (bytes[0] as number)));
      },
      sizeBytes: bytes.length,
    };
  },
};
