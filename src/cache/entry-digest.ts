import { hash } from 'node:crypto';

import type { Key } from './partition.ts';

const HEX_DIGEST = /^[0-9a-f]{64}$/;

/** A key as the 32 bytes that shared memory knows it by: a digest in hex is those bytes, any other text is hashed with SHA-256. */
export function digestOfKey(key: Key): Uint8Array {
  return HEX_DIGEST.test(key) ? Buffer.from(key, 'hex') : hash('sha256', key, 'buffer');
}

/** A digest as text: its 64 digits. */
export function hexOf(digest: Uint8Array): string {
  return Buffer.from(digest.buffer, digest.byteOffset, digest.byteLength).toString('hex');
}
