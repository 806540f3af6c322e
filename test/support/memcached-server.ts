import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';

// Whatever ends this process ends its servers, too.
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** A memcached of its own on a free port of this machine. */
export class MemcachedServer implements AsyncDisposable {
  readonly port: number;
  readonly #flags: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  #child: ChildProcess | undefined;

  private constructor(port: number, flags: readonly string[], env: Readonly<Record<string, string>>) {
    this.port = port;
    this.#flags = flags;
    this.#env = env;
  }

  /** Starts one that answers; with 256 MB if the flags say nothing. */
  static async start(
    flags: readonly string[] = ['-m', '256'],
    env: Readonly<Record<string, string>> = {},
  ): Promise<MemcachedServer> {
    const server = new MemcachedServer(await freePort(), flags, env);
    await server.restart();
    return server;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Starts it anew, empty, on the same port. */
  async restart(): Promise<void> {
    const child = spawn(
      'memcached',
      ['-l', '127.0.0.1', '-p', String(this.port), '-U', '0', '-u', 'nobody', ...this.#flags],
      {
        stdio: 'ignore',
        env: { ...process.env, ...this.#env },
      },
    );
    this.#child = child;
    running.add(child);
    child.once('exit', () => running.delete(child));
    child.unref();
    while (!(await answers(this.port))) {
      if (child.exitCode !== null) throw new Error(`memcached ended with ${child.exitCode}`);
    }
  }

  /** As kill -9, or a signal that stops it (`SIGSTOP`) or lets it go on (`SIGCONT`). */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    child.kill(signal);
    if (signal !== 'SIGKILL') return;
    this.#child = undefined;
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}

/** Why memcached cannot be had here, if so. */
export function memcachedMissing(): string | false {
  return spawnSync('memcached', ['-V']).status === 0 ? false : 'memcached is not installed (npm run setup)';
}

/** A port that nobody listens at, at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
