import { connect, type NetConnectOpts, type Socket } from 'node:net';

import type * as IoRedis from 'ioredis';

import { AnswerFrames } from './answer-frames.ts';

type ConnectorClass = NonNullable<IoRedis.CommonRedisOptions['Connector']>;

/** The way in which ioredis makes its sockets, with answers cut into frames. Without TLS alone: such a socket has its own memory. */
export function framedConnector({ AbstractConnector }: Pick<typeof IoRedis, 'AbstractConnector'>): ConnectorClass {
  class FramedConnector extends AbstractConnector {
    readonly #options: IoRedis.RedisOptions;
    constructor(options: IoRedis.RedisOptions) {
      super(options.disconnectTimeout ?? 0);
      this.#options = options;
    }

    async connect(): Promise<Socket> {
      this.connecting = true;
      const { path, host = '127.0.0.1', port = 6379, family } = this.#options;
      const socket = openFramed(path ? { path } : { host, port, ...(family !== undefined && { family }) });
      socket.once('error', (error) => {
        // What ioredis says if the socket is gone before it looks at it.
        this.firstError = error;
      });
      this.stream = socket;
      return socket;
    }
  }
  return FramedConnector as unknown as ConnectorClass;
}

function openFramed(where: NetConnectOpts): Socket {
  const frames = new AnswerFrames(
    (piece) => {
      if (!socket.destroyed) socket.emit('data', piece);
    },
    (error) => socket.destroy(error),
  );
  const onread = {
    buffer: () => frames.target(),
    callback: (length: number, memory: Uint8Array) => {
      frames.take((memory as Buffer).subarray(0, length));
      return true;
    },
  };
  const socket: Socket = connect({ ...where, onread } as NetConnectOpts);
  return socket;
}
