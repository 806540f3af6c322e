import { hash } from 'node:crypto';

const POINTS_A_SERVER = 160;

/**
 * Which of several servers has a key: each has many points on a circle of hashes, and a key belongs to the next one. When a server
 * comes or goes, only the keys of its own points move.
 *
 * Source: David Karger et al., Consistent Hashing and Random Trees, 1997.
 */
export class Ring {
  readonly #points: Uint32Array;
  readonly #owners: Uint16Array;

  /** @param names of the servers, the same at every client */
  constructor(names: readonly string[]) {
    const points = names.flatMap((name, owner) =>
      Array.from({ length: POINTS_A_SERVER }, (_, point) => ({ at: hashOf(`${name}-${point}`), owner })),
    );
    points.sort((a, b) => a.at - b.at || a.owner - b.owner);
    this.#points = Uint32Array.from(points, ({ at }) => at);
    this.#owners = Uint16Array.from(points, ({ owner }) => owner);
  }

  /** The number of the server that has a key. */
  ownerOf(key: string): number {
    const at = hashOf(key);
    let low = 0;
    let high = this.#points.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#points[middle] as number) < at) low = middle + 1;
      else high = middle;
    }
    return this.#owners[low === this.#points.length ? 0 : low] as number;
  }
}

function hashOf(text: string): number {
  return hash('sha1', text, 'buffer').readUInt32BE(0);
}
