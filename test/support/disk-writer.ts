import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const FIXTURE = fileURLToPath(new URL('../fixtures/disk-store-writer.ts', import.meta.url));

// What a process has compiled the next one need not: starting one takes half as long.
const COMPILED = join(tmpdir(), `inferkv-test-compiled-${process.pid}`);
process.once('exit', () => rmSync(COMPILED, { recursive: true, force: true }));

/** A child that writes into a disk store, and what it told of it. */
export class DiskWriter {
  readonly child: ChildProcess;
  /** The newest version of each name that was acknowledged. */
  readonly acknowledged: Map<string, number> = new Map();
  /** The newest version of each name that was begun. */
  readonly begun: Map<string, number> = new Map();
  readonly outcomes: Map<string, number> = new Map();
  readonly ready: Promise<void>;
  readonly ended: Promise<unknown>;
  errors = '';
  onLine: ((acknowledgements: number) => void) | undefined;
  #count = 0;
  #rest = '';

  constructor(orders: object) {
    this.child = spawn(process.execPath, [FIXTURE, JSON.stringify(orders)], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, NODE_COMPILE_CACHE: COMPILED },
    });
    this.ended = once(this.child, 'close');
    const ready = Promise.withResolvers<void>();
    this.ready = ready.promise;
    this.child.stderr?.on('data', (text: Buffer) => (this.errors += text.toString()));
    this.child.stdin?.on('error', () => undefined);
    this.child.stdout?.on('data', (text: Buffer) => {
      const lines = (this.#rest + text.toString()).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) {
        if (line === 'ready') ready.resolve();
        else this.#take(line);
      }
    });
    void this.ended.then(() => ready.resolve());
  }

  begin(): void {
    this.child.stdin?.write('go\n');
  }

  /** Ends it at once, wherever it is. */
  kill(): void {
    this.child.kill('SIGKILL');
  }

  #take(line: string): void {
    const [what, name = '', version = '', outcome = ''] = line.split(' ');
    if (what === 's') this.begun.set(name, Number(version));
    if (what !== 'a') return;
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
    if (outcome === 'stored') this.acknowledged.set(name, Number(version));
    this.#count++;
    this.onLine?.(this.#count);
  }
}
