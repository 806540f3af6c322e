import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';

/** What a load client is told to do. */
export interface LoadOrder {
  readonly port: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** The JSON of the request, and numbers behind it. */
  readonly json: string;
  readonly floats: number;
  /** Whether every request has another first number, so that none is like one before. */
  readonly fresh: boolean;
  readonly connections: number;
  readonly forMs: number;
}

/** What it saw. */
export interface LoadReport {
  readonly answers: number;
  readonly seconds: number;
  readonly hits: number;
}

/** A program of this folder in a process of its own. */
export class BenchProcess implements AsyncDisposable {
  readonly #child: ChildProcess;

  constructor(program: string, args: readonly string[] = []) {
    this.#child = fork(new URL(program, import.meta.url), args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  }

  /** The next message it sends. */
  heard<T>(): Promise<T> {
    return new Promise((resolve, reject) => {
      const onMessage = (message: unknown): void => {
        this.#child.off('exit', onExit);
        resolve(message as T);
      };
      const onExit = (code: number | null): void => {
        this.#child.off('message', onMessage);
        reject(new Error(`A process of the benchmark ended with code ${code}.`));
      };
      this.#child.once('message', onMessage).once('exit', onExit);
    });
  }

  /** Sends a message and gives the answer. */
  ask<T>(message: object): Promise<T> {
    const answer = this.heard<T>();
    this.#child.send(message);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.disconnect();
    await ended;
  }
}
