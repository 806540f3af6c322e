import { ServerProcess } from './processes.ts';

/** Starts a Memcached. */
export function startMemcached(port: number, ...args: readonly string[]): Promise<ServerProcess> {
  // Refuses to run as root unless it is told as whom.
  return ServerProcess.start(
    'memcached',
    ['-l', '127.0.0.1', '-p', String(port), '-U', '0', '-u', 'nobody', ...args],
    port,
  );
}
