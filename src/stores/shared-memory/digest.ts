import { InferkvError } from '../../base/errors.ts';
import { KEY_BYTES, KEY_WORDS } from './layout.ts';

/**
 * Reads a SHA-256 digest into eight words.
 *
 * @throws InferkvError `ERR_INFERKV_INPUT_INVALID` if it is not 32 bytes long
 */
export function readDigest(digest: Uint8Array, into: Int32Array): void {
  if (digest.length !== KEY_BYTES) {
    throw new InferkvError(
      'ERR_INFERKV_INPUT_INVALID',
      `A key of the shared memory store is a digest of 32 bytes; this one has ${digest.length}.`,
    );
  }
  for (let word = 0, at = 0; word < KEY_WORDS; word++, at += 4) {
    into[word] =
      (digest[at] as number) |
      ((digest[at + 1] as number) << 8) |
      ((digest[at + 2] as number) << 16) |
      ((digest[at + 3] as number) << 24);
  }
}

/** The digest that lies in eight words. */
export function writeDigest(words: Int32Array, at: number): Uint8Array {
  const digest = new Uint8Array(KEY_BYTES);
  for (let i = 0; i < KEY_BYTES; i++) digest[i] = ((words[at + (i >> 2)] as number) >>> (8 * (i & 3))) & 0xff;
  return digest;
}

/**
 * Where a key's probing begins: its first words, mixed with the store's salts, so that nobody who can choose inputs can
 * make their keys pile up in one place.
 */
export function homeOf(key: Int32Array, saltA: number, saltB: number): number {
  let mixed = Math.imul((key[0] as number) ^ saltA, 0x9e37_79b1);
  mixed = Math.imul((mixed ^ (mixed >>> 15)) + (key[1] as number), saltB | 1);
  mixed = Math.imul((mixed ^ (mixed >>> 13)) + (key[2] as number), 0x85eb_ca77);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

/** The word by which cells are told apart before a record is looked at. */
export const TAG_WORD = 3;
