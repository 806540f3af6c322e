import { TOKEN_OFFSET, tokenOf } from './record.ts';

/** Views of some bytes of a record that is given in parts. */
export function viewsOfParts(parts: readonly Uint8Array[], from: number, lengthBytes: number): readonly Uint8Array[] {
  const views: Uint8Array[] = [];
  let skip = from;
  let left = lengthBytes;
  for (const part of parts) {
    if (left === 0) break;
    const taken = part.subarray(skip, skip + left);
    if (taken.length > 0) views.push(taken);
    left -= taken.length;
    skip = Math.max(0, skip - part.length);
  }
  return views;
}

/** A copy of them, in memory of its own. */
export function copyOfParts(parts: readonly Uint8Array[], from: number, lengthBytes: number): Uint8Array {
  const copy = new Uint8Array(lengthBytes);
  let has = 0;
  for (const view of viewsOfParts(parts, from, lengthBytes)) {
    copy.set(view, has);
    has += view.length;
  }
  return copy;
}

/** The token that a record in parts carries; 0 for what is no record. A safe integer, whatever lies there. */
export function tokenOfParts(parts: readonly Uint8Array[]): number {
  const start = copyOfParts(parts, 0, TOKEN_OFFSET + 8);
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return length < start.length ? 0 : Math.min(tokenOf(start), Number.MAX_SAFE_INTEGER);
}
