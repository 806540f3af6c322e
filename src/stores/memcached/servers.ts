import { InferkvError } from '../../base/errors.ts';
import type { Connection } from './connection.ts';
import { STATUS, type Request, type Response } from './protocol.ts';
import type { Ring } from './ring.ts';

/** One server of several, for all that has to do with one name. */
export interface Server {
  /** Sends requests in one go and waits for all; rejected if any cannot be answered. */
  ask(requests: readonly Request[]): Promise<readonly Response[]>;
  /** Sends one. */
  askOne(request: Request): Promise<Response>;
}

/** All servers, each for its share of the names. */
export class Servers {
  readonly #connections: readonly Connection[];
  readonly #servers: readonly Server[];
  readonly #ring: Ring;

  constructor(connections: readonly Connection[], ring: Ring) {
    this.#connections = connections;
    this.#ring = ring;
    this.#servers = connections.map((connection) => ({
      ask: async (requests) => Promise.all(connection.send(requests)),
      askOne: async (request) => (await Promise.all(connection.send([request])))[0] as Response,
    }));
  }

  /** The server that has what belongs to this name. */
  of(name: string): Server {
    return this.#servers[this.#ring.serverOf(name)] as Server;
  }

  /** Does something for the names of each server at the same time; the results are in the order of the names. */
  async each<T>(
    names: readonly string[],
    ask: (server: Server, names: readonly string[]) => Promise<readonly T[]>,
  ): Promise<readonly PromiseSettledResult<T>[]> {
    const places = Map.groupBy(names.keys(), (place) => this.#ring.serverOf(names[place] as string));
    const results = Array.from<PromiseSettledResult<T>>({ length: names.length });
    const asked = [...places].map(async ([index, own]) => {
      const [outcome] = await Promise.allSettled([
        ask(
          this.#servers[index] as Server,
          own.map((place) => names[place] as string),
        ),
      ]);
      for (const [at, place] of own.entries()) {
        results[place] =
          outcome.status === 'rejected' ? outcome : { status: 'fulfilled', value: outcome.value[at] as T };
      }
    });
    await Promise.all(asked);
    return results;
  }

  close(): void {
    for (const connection of this.#connections) connection.close();
  }
}

/** The error of an answer that is neither yes nor no. */
export function refused({ status }: Response): InferkvError {
  const reason =
    status === STATUS.outOfMemory ? 'it is out of memory' : `status 0x${status.toString(16).padStart(4, '0')}`;
  return new InferkvError(
    'ERR_INFERKV_STORE_FAILED',
    `A memcached server refused a request (${reason}); look at its log.`,
  );
}
