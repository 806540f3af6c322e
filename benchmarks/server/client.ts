/** A load client: connections that each send again as soon as they have their answer, by bare sockets. */
import { connect } from 'node:net';

import type { LoadOrder, LoadReport } from './messages.ts';

const HEAD_END = '\r\n\r\n';

process.on('message', (order: LoadOrder) => {
  void drive(order).then((report) => process.send?.(report));
});
process.on('disconnect', () => process.exit());

async function drive(order: LoadOrder): Promise<LoadReport> {
  const start = performance.now();
  const reports = await Promise.all(Array.from({ length: order.connections }, (_, at) => caller(order, at, start)));
  return {
    answers: reports.reduce((sum, { answers }) => sum + answers, 0),
    hits: reports.reduce((sum, { hits }) => sum + hits, 0),
    seconds: (performance.now() - start) / 1000,
  };
}

function caller(order: LoadOrder, at: number, start: number): Promise<{ answers: number; hits: number }> {
  const { head, body } = requestOf(order);
  const firstFloat = Buffer.byteLength(order.json);
  const socket = connect({ port: order.port, host: '127.0.0.1', noDelay: true });
  let answers = 0;
  let hits = 0;
  let serial = at;
  const send = (): void => {
    serial += order.connections;
    if (order.fresh) body.writeFloatLE(serial, firstFloat);
    socket.cork();
    socket.write(head);
    socket.write(body);
    socket.uncork();
  };
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    socket.on('connect', send);
    socket.on('error', reject);
    socket.on('data', (chunk) => {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
      const headEnd = received.indexOf(HEAD_END);
      if (headEnd === -1) return;
      const answer = received.toString('latin1', 0, headEnd);
      const length = Number(/content-length: (\d+)/i.exec(answer)?.[1]);
      if (received.length < headEnd + HEAD_END.length + length) return;
      if (!answer.startsWith('HTTP/1.1 200')) {
        reject(new Error(`The server answered: ${received.toString('latin1').slice(0, 500)}`));
        return;
      }
      received = Buffer.alloc(0);
      answers++;
      if (answer.includes('; hit;')) hits++;
      if (performance.now() - start < order.forMs) return send();
      socket.destroy();
      resolve({ answers, hits });
    });
  });
}

function requestOf({ path, headers, json, floats }: LoadOrder): { readonly head: Buffer; readonly body: Buffer } {
  const numbers = Buffer.from(new Float32Array(floats).fill(0.5).buffer);
  const body = Buffer.concat([Buffer.from(json), numbers]);
  const lines = Object.entries({ host: 'localhost', 'content-length': String(body.length), ...headers });
  const head = `POST ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;
  return { head: Buffer.from(head), body };
}
