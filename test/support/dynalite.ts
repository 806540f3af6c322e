import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import {
  createDynamoDbStore,
  createDynamoDbTable,
  type DynamoDbStoreOptions,
  type DynamoDbTableOptions,
} from '../../src/stores/dynamodb/index.ts';
import type { Store } from '../../src/stores/store.ts';
import { DynamoProxy } from './dynamo-proxy.ts';
import { freePort } from './memcached-server.ts';

// Whatever ends this process ends its servers, too.
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

const program = join(dirname(fileURLToPath(import.meta.resolve('dynalite'))), 'cli.js');

/** What dynalite takes for credentials: anything. */
const NOBODY = { credentials: { accessKeyId: 'nobody', secretAccessKey: 'nothing' } };

/** An emulator of DynamoDB in a process of its own on a free port; its tables are in its memory. */
export class Dynalite implements AsyncDisposable {
  readonly port: number;
  #child: ChildProcess | undefined;

  private constructor(port: number) {
    this.port = port;
  }

  /** Starts one that answers, with the table `cache`. */
  static async start(): Promise<Dynalite> {
    const server = new Dynalite(await freePort());
    await server.restart();
    return server;
  }

  /** How its table is reached; by another port if it is behind something. */
  options(port: number = this.port): DynamoDbTableOptions {
    return { table: 'cache', region: 'nowhere', endpoint: `http://127.0.0.1:${port}`, sdkOptions: NOBODY };
  }

  /** Starts it anew, its table empty, on the same port. */
  async restart(): Promise<void> {
    const none = ['--createTableMs', '0', '--deleteTableMs', '0', '--updateTableMs', '0'];
    const child = spawn(process.execPath, [program, '--port', String(this.port), '--host', '127.0.0.1', ...none], {
      stdio: 'ignore',
    });
    this.#child = child;
    running.add(child);
    child.once('exit', () => running.delete(child));
    child.unref();
    while (!(await answers(this.port))) {
      if (child.exitCode !== null) throw new Error(`dynalite ended with ${child.exitCode}`);
    }
    await createDynamoDbTable(this.options());
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

/** A store that reaches a server through a proxy. */
export async function storeBehind(
  server: Dynalite,
  options: Partial<DynamoDbStoreOptions> = {},
): Promise<{ readonly proxy: DynamoProxy; readonly store: Store } & AsyncDisposable> {
  const proxy = await DynamoProxy.start(server.port);
  const store = createDynamoDbStore({ ...server.options(proxy.port), ...options });
  return {
    proxy,
    store,
    [Symbol.asyncDispose]: async () => {
      await store.close();
      await proxy[Symbol.asyncDispose]();
    },
  };
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
