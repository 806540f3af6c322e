import { createHash } from 'node:crypto';

const HASHES_PER_SERVER = 40;
const POINTS_PER_HASH = 4;

/**
 * Consistent hashing: which server has a key. A server that comes or goes takes or gives its own share of the keys, and leaves
 * those of the others where they are. 160 points a server on a circle of 32 bits; a key belongs to the next point.
 *
 * Source: ketama, https://www.metabrew.com/article/libketama-consistent-hashing-algo-memcached-clients
 */
export class Ring {
  readonly #points: Uint32Array;
  readonly #owners: Uint16Array;

  /** @param servers their addresses; their order does not matter */
  constructor(servers: readonly string[]) {
    const points = servers.flatMap((server, owner) => pointsOf(server).map((point) => ({ point, owner })));
    points.sort((a, b) => a.point - b.point || compareTexts(servers[a.owner] ?? '', servers[b.owner] ?? ''));
    this.#points = Uint32Array.from(points, ({ point }) => point);
    this.#owners = Uint16Array.from(points, ({ owner }) => owner);
  }

  /** The index of the server that has this key. */
  serverOf(key: string): number {
    const hash = createHash('md5').update(key).digest().readUInt32LE(0);
    let low = 0;
    let high = this.#points.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#points[middle] as number) < hash) low = middle + 1;
      else high = middle;
    }
    return this.#owners[low === this.#points.length ? 0 : low] as number;
  }
}

function pointsOf(server: string): readonly number[] {
  const points: number[] = [];
  for (let hash = 0; hash < HASHES_PER_SERVER; hash++) {
    const digest = createHash('md5').update(`${server}-${hash}`).digest();
    for (let part = 0; part < POINTS_PER_HASH; part++) points.push(digest.readUInt32LE(4 * part));
  }
  return points;
}

function compareTexts(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
