import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** Stands before a server and cuts its answers short as a test says. */
export class CutProxy implements AsyncDisposable {
  readonly port: number;
  /** Bytes of answers that still pass before the connection is cut; each new connection is whole. */
  cutAfterBytes: number = Number.POSITIVE_INFINITY;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (client) => this.#join(client, connect(target, '127.0.0.1')));
  }

  static async start(target: number): Promise<CutProxy> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new CutProxy(server, target);
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  #join(client: Socket, target: Socket): void {
    const end = (): void => {
      client.destroy();
      target.destroy();
    };
    for (const socket of [client, target]) {
      this.#sockets.add(socket);
      socket.on('error', end);
      socket.on('close', end);
      socket.on('close', () => this.#sockets.delete(socket));
    }
    client.on('data', (piece) => target.write(piece));
    target.on('data', (piece) => {
      const passed = piece.subarray(0, this.cutAfterBytes);
      this.cutAfterBytes -= passed.length;
      if (this.cutAfterBytes > 0) client.write(passed);
      else {
        this.cutAfterBytes = Number.POSITIVE_INFINITY;
        client.end(passed, end);
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
