import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';

import { Redis } from 'ioredis';

/** A Redis server of our own on loopback that keeps nothing on disk, and a client. */
export interface LocalRedis extends AsyncDisposable {
  readonly client: Redis;
}

/** Starts one, or says why it cannot. */
export async function startRedis(): Promise<LocalRedis | string> {
  const port = await freePort();
  const server = spawn(
    'redis-server',
    ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'],
    { stdio: 'ignore' },
  );
  const failed = await Promise.race([
    once(server, 'error').then(([error]) => (error as Error).message),
    once(server, 'spawn').then(() => undefined),
  ]);
  if (failed !== undefined) return `redis-server cannot be started (${failed})`;
  const client = new Redis({ port, host: '127.0.0.1', retryStrategy: (times) => (times < 100 ? 50 : null) });
  // It is refused until the server listens; the client tries again by itself.
  client.on('error', () => undefined);
  await client.ping();
  return {
    client,
    async [Symbol.asyncDispose]() {
      const ended = once(server, 'exit');
      client.disconnect();
      server.kill();
      await ended;
    },
  };
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}
