/** What one would write by hand: a Fastify route that takes the same bodies, with and without a SHA-256 of them. */
import { hash } from 'node:crypto';
import type { AddressInfo } from 'node:net';

import fastify from 'fastify';

const ANSWER_BYTES = 4160;

const app = fastify({ bodyLimit: 64e6 });
const answer = Buffer.alloc(ANSWER_BYTES, 7);
app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
app.post('/plain', (_request, reply) => reply.type('application/octet-stream').send(answer));
app.post('/sha256', (request, reply) => {
  const digest = hash('sha256', request.body as Buffer);
  return reply.header('digest', digest).type('application/octet-stream').send(answer);
});
await app.listen({ host: '127.0.0.1', port: 0 });
process.on('disconnect', () => process.exit());
process.send?.({ port: (app.server.address() as AddressInfo).port });
