import { InferkvError } from '../base/errors.ts';

/** What lies with the bytes of an entry, so that whoever finds it knows it: written by any thread, read by any other. */
export interface Envelope {
  readonly tags: readonly string[] | undefined;
  readonly tenant: string | undefined;
  /** What the codec said of the value. */
  readonly metadata: Uint8Array;
}

/** The longest envelope that an entry of shared memory may have. */
export const MAX_ENVELOPE_BYTES = 0xffff;

const HEADER_BYTES = 4;
const HAS_TENANT = 1;
const encoder = new TextEncoder();
// A byte order mark is part of a text here.
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/**
 * ```
 *   | 1 if there is a tenant | 0 | tags, 16 bits | each text: length, 16 bits, and UTF-8; the tenant first | the codec's |
 * ```
 *
 * @returns `undefined` if it would be longer than an entry may have
 */
export function sealEnvelope({ tags = [], tenant, metadata }: Envelope): Uint8Array | undefined {
  const texts = (tenant === undefined ? tags : [tenant, ...tags]).map((each) => encoder.encode(each));
  const lengthBytes = texts.reduce((sum, { length }) => sum + 2 + length, HEADER_BYTES + metadata.length);
  if (lengthBytes > MAX_ENVELOPE_BYTES) return undefined;
  const sealed = new Uint8Array(lengthBytes);
  const view = new DataView(sealed.buffer);
  sealed[0] = tenant === undefined ? 0 : HAS_TENANT;
  view.setUint16(2, tags.length, true);
  let at = HEADER_BYTES;
  for (const text of texts) {
    view.setUint16(at, text.length, true);
    sealed.set(text, at + 2);
    at += 2 + text.length;
  }
  sealed.set(metadata, at);
  return sealed;
}

/** @throws InferkvError `ERR_INFERKV_INPUT_INVALID` for bytes that `sealEnvelope` did not make */
export function openEnvelope(sealed: Uint8Array): Envelope {
  const view = new DataView(sealed.buffer, sealed.byteOffset, sealed.byteLength);
  if (sealed.length < HEADER_BYTES) throw cutOff();
  const hasTenant = (sealed[0] as number) === HAS_TENANT;
  const count = view.getUint16(2, true) + (hasTenant ? 1 : 0);
  const texts: string[] = [];
  let at = HEADER_BYTES;
  for (let text = 0; text < count; text++) {
    if (at + 2 > sealed.length) throw cutOff();
    const end = at + 2 + view.getUint16(at, true);
    if (end > sealed.length) throw cutOff();
    // A text decoder takes no shared memory.
    texts.push(decoder.decode(sealed.slice(at + 2, end)));
    at = end;
  }
  const tenant = hasTenant ? texts.shift() : undefined;
  return { tags: texts.length === 0 ? undefined : texts, tenant, metadata: sealed.subarray(at) };
}

/** What the codec said of the value; the texts are not decoded. */
export function metadataOf(sealed: Uint8Array): Uint8Array {
  const view = new DataView(sealed.buffer, sealed.byteOffset, sealed.byteLength);
  if (sealed.length < HEADER_BYTES) throw cutOff();
  let at = HEADER_BYTES;
  for (let left = view.getUint16(2, true) + ((sealed[0] as number) === HAS_TENANT ? 1 : 0); left > 0; left--) {
    if (at + 2 > sealed.length) throw cutOff();
    at += 2 + view.getUint16(at, true);
  }
  if (at > sealed.length) throw cutOff();
  return sealed.subarray(at);
}

function cutOff(): InferkvError {
  return new InferkvError('ERR_INFERKV_INPUT_INVALID', 'What lies with an entry of shared memory is cut off.');
}
