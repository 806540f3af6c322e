import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** What lies between a client and its server, and can fail in its own ways. */
export class TcpProxy implements AsyncDisposable {
  readonly port: number;
  /** Changes what the server sends. */
  garble: ((bytes: Buffer) => Buffer) | undefined;
  /** Passes so many more bytes of what the server sends, then cuts that connection. */
  cutAfterBytes: number = Number.POSITIVE_INFINITY;
  /** Connections that were made through it. */
  connections = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isDown = false;

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on('connection', (client) => this.#join(client, target));
  }

  static async start(targetPort: number): Promise<TcpProxy> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new TcpProxy(server, targetPort);
  }

  /** Ends every connection, and each new one at once, until `up`. */
  down(): void {
    this.#isDown = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  up(): void {
    this.#isDown = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.down();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #join(client: Socket, target: number): void {
    if (this.#isDown) {
      client.destroy();
      return;
    }
    this.connections++;
    const server = connect(target, '127.0.0.1');
    const both = [client, server];
    for (const socket of both) {
      this.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.#sockets.delete(socket);
        for (const each of both) each.destroy();
      });
    }
    client.on('data', (bytes) => void server.write(bytes));
    server.on('data', (bytes) => {
      const passed = (this.garble?.(bytes) ?? bytes).subarray(0, this.cutAfterBytes);
      client.write(passed);
      this.cutAfterBytes -= passed.length;
      if (this.cutAfterBytes > 0) return;
      this.cutAfterBytes = Number.POSITIVE_INFINITY;
      client.end();
      server.destroy();
    });
  }
}
