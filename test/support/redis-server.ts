import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { Redis } from 'ioredis';

import type { RedisAddress, RedisStoreOptions } from '../../src/stores/redis/index.ts';
import { TempFolder } from './temp.ts';

const HOST = '127.0.0.1';
const PATIENCE_MS = 15_000;

/** Every server of this process; none outlives it. */
const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** How a server differs from one that keeps nothing on disk and lets everybody in. */
export interface RedisServerOptions {
  /** More words of its command line: `['--maxmemory', '4mb']`. */
  readonly settings?: readonly string[];
  readonly port?: number;
  /** The password that the user `default` has. */
  readonly password?: string;
  /** It speaks TLS alone, with a certificate of these files. */
  readonly tls?: { readonly cert: string; readonly key: string };
  readonly isSentinel?: boolean;
}

/** A real redis-server on a free port of loopback. */
export class RedisServer implements AsyncDisposable {
  readonly host: string = HOST;
  readonly port: number;
  /** A client to look behind the store's back with. */
  readonly admin: Redis;
  readonly #folder = new TempFolder();
  readonly #options: RedisServerOptions;
  #child: ChildProcess | undefined;

  private constructor(port: number, options: RedisServerOptions) {
    this.port = port;
    this.#options = options;
    this.admin = new Redis({
      host: HOST,
      port,
      lazyConnect: true,
      maxRetriesPerRequest: 0,
      retryStrategy: () => 20,
      enableReadyCheck: false,
      ...(options.password !== undefined && { password: options.password }),
      ...(options.tls !== undefined && { tls: { rejectUnauthorized: false } }),
    });
    this.admin.on('error', () => undefined);
  }

  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    const server = new RedisServer(options.port ?? (await freePort()), options);
    try {
      await server.startAgain();
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  get address(): RedisAddress {
    return { host: this.host, port: this.port };
  }

  /** Starts it where it was killed; waits until it listens. */
  async startAgain(): Promise<void> {
    const { settings = [], password, tls, isSentinel = false } = this.#options;
    const words = [
      ...(tls === undefined ? ['--port', String(this.port)] : ['--port', '0', '--tls-port', String(this.port)]),
      ...(tls === undefined
        ? []
        : ['--tls-cert-file', tls.cert, '--tls-key-file', tls.key, '--tls-auth-clients', 'no']),
      ...['--bind', HOST, '--dir', this.#folder.path, '--loglevel', 'warning'],
      ...(isSentinel ? [] : ['--save', '', '--appendonly', 'no', '--repl-diskless-sync-delay', '0']),
      ...(password === undefined ? [] : ['--requirepass', password]),
      ...settings,
    ];
    const config = isSentinel ? [this.#folder.write('sentinel.conf', ''), ...words, '--sentinel'] : words;
    const child = spawn('redis-server', config, { stdio: ['ignore', 'pipe', 'ignore'] });
    let says = '';
    child.stdout.on('data', (text) => {
      says += String(text);
    });
    this.#child = child;
    running.add(child);
    child.once('exit', () => running.delete(child));
    await once(child, 'spawn');
    await until(async () => {
      if (child.exitCode !== null) throw new Error(`redis-server ended: ${says}`);
      return isListening(this.port);
    });
  }

  /** Ends it at once and without a word, as a lost machine does; waits until it is gone. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGCONT');
    child.kill('SIGKILL');
    await ended;
  }

  /** It answers nothing until `wake`, but its sockets stay. */
  hang(): void {
    this.#child?.kill('SIGSTOP');
  }

  wake(): void {
    this.#child?.kill('SIGCONT');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.admin.disconnect();
    await this.kill();
    this.#folder[Symbol.dispose]();
  }
}

/** A port that is free now. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, HOST);
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}

/** Asks again and again; what is waited for is another process. */
export async function until(holds: () => Promise<boolean> | boolean, what = 'it'): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`${what} did not come about within ${PATIENCE_MS} ms`);
    await pause(10);
  }
}

/** Runs a process that uses a store, listens for invalidations, closes nothing, and must end all the same. */
export async function endsByItself(options: RedisStoreOptions): Promise<void> {
  const script = fileURLToPath(new URL('../fixtures/redis-left-open.ts', import.meta.url));
  const child = spawn(process.execPath, [script, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'inherit'] });
  running.add(child);
  const says = child.stdout.toArray();
  const late = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS);
  const [code] = (await once(child, 'exit')) as [number | null];
  clearTimeout(late);
  running.delete(child);
  assert.equal(`${code}: ${(await says).join('')}`, '0: in step, read 3');
}

function isListening(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(port, HOST);
  socket.once('connect', () => resolve(true));
  socket.once('error', () => resolve(false));
  return promise.finally(() => socket.destroy());
}
