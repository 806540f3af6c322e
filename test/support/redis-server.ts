import { ServerProcess } from './processes.ts';

/** Starts a Redis that writes nothing to disk. */
export function startRedis(port: number, ...args: readonly string[]): Promise<ServerProcess> {
  const fixed = [
    '--port',
    String(port),
    '--bind',
    '127.0.0.1',
    '--save',
    '',
    '--appendonly',
    'no',
    '--daemonize',
    'no',
  ];
  return ServerProcess.start('redis-server', [...fixed, ...args], port);
}
