import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What is answered, and how. */
export interface Answer {
  readonly status: number;
  readonly body: string | Buffer;
  /** Ends the connection after so many bytes of the body. */
  readonly cutAfterBytes?: number;
}

/** Stands before a server that speaks as DynamoDB does, and answers in its place where a test says so. */
export class DynamoProxy implements AsyncDisposable {
  readonly port: number;
  /** Names of all requests so far: `GetItem`. */
  readonly asked: string[] = [];
  /** Answers without asking the server; asks it where it gives `undefined`. */
  instead: (operation: string, body: string) => Answer | undefined = () => undefined;
  /** Changes what the server answered. */
  spoil: (operation: string, answer: Answer) => Answer = (_, answer) => answer;
  /** Is told what the server answered. */
  saw: (operation: string, body: string, answer: Answer) => void = () => undefined;
  readonly #server: Server;

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on('request', (incoming: IncomingMessage, outgoing) => {
      void this.#answer(target, incoming, outgoing).catch(() => outgoing.destroy());
    });
  }

  static async start(target: number): Promise<DynamoProxy> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new DynamoProxy(server, target);
  }

  async #answer(target: number, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const operation = String(incoming.headers['x-amz-target']).split('.').at(-1) as string;
    this.asked.push(operation);
    const body = await bodyOf(incoming);
    let answer = this.instead(operation, body.toString());
    if (answer === undefined) {
      const given = await forward(target, incoming, body);
      this.saw(operation, body.toString(), given);
      answer = this.spoil(operation, given);
    }
    outgoing.writeHead(answer.status, { 'content-type': 'application/x-amz-json-1.0' });
    if (answer.cutAfterBytes === undefined) outgoing.end(answer.body);
    else outgoing.write(Buffer.from(answer.body).subarray(0, answer.cutAfterBytes), () => outgoing.destroy());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }
}

/** An error as DynamoDB says it. */
export function dynamoError(name: string, status = 400): Answer {
  return {
    status,
    body: JSON.stringify({ __type: `com.amazonaws.dynamodb.v20120810#${name}`, message: 'said by the test' }),
  };
}

async function forward(port: number, incoming: IncomingMessage, body: Buffer): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const headers = { ...incoming.headers, host: `127.0.0.1:${port}` };
  request({ port, host: '127.0.0.1', method: 'POST', path: '/', headers })
    .on('error', reject)
    .on('response', (response) => {
      bodyOf(response).then((text) => resolve({ status: response.statusCode ?? 500, body: text }), reject);
    })
    .end(body);
  return promise;
}

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of message) pieces.push(piece as Buffer);
  return Buffer.concat(pieces);
}
