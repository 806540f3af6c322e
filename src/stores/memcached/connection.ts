import { connect, type Socket } from 'node:net';

import { abortError, whenAborted } from '../../base/cancellation.ts';
import {
  encodeRequest,
  OPCODE,
  ResponseReader,
  STATUS,
  type MemcachedRequest,
  type MemcachedResponse,
} from './protocol.ts';

/** A server, and how it is reached. */
export interface MemcachedAddress {
  readonly host: string;
  readonly port: number;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly connectTimeoutMs: number;
  readonly maxBodyBytes: number;
}

interface Waiting {
  readonly opaque: number;
  readonly resolve: (response: MemcachedResponse) => void;
  readonly reject: (error: Error) => void;
  readonly sinceMs: number;
}

const FIRST_PAUSE_MS = 50;
const MAX_PAUSE_MS = 2000;
// A server that has not answered for so long is not waited for by the next who asks.
const SILENCE_MS = 1000;

/**
 * One connection to one server: questions go out without waiting for answers, which come back in their order. It is made when it
 * is first needed; when it breaks everything under way fails, and for a while whoever asks is told at once.
 */
export class MemcachedConnection {
  readonly #address: MemcachedAddress;
  #socket: Socket | undefined;
  #connecting: Promise<Socket> | undefined;
  readonly #waiting: Waiting[] = [];
  #lastOpaque = 0;
  #pauseMs = 0;
  #notBeforeMs = 0;
  #lastFault = '';
  #closed = false;

  constructor(address: MemcachedAddress) {
    this.#address = address;
  }

  /** Asks; rejects with a plain error that says what is wrong with the server. */
  async ask(request: MemcachedRequest, signal: AbortSignal | undefined): Promise<MemcachedResponse> {
    if (signal?.aborted === true) throw abortError(signal);
    const socket = this.#socket ?? (await this.#connected(signal));
    return this.#send(socket, request, signal);
  }

  close(): void {
    this.#closed = true;
    this.#break(new Error('the connection was closed'), false);
  }

  #send(socket: Socket, request: MemcachedRequest, signal: AbortSignal | undefined): Promise<MemcachedResponse> {
    return new Promise((resolve, reject) => {
      const opaque = (this.#lastOpaque = (this.#lastOpaque + 1) >>> 0);
      const stop = whenAborted(signal, (error) => {
        reject(error);
        // The answer is still to come, and is dropped then; if nothing comes any more, the line is dead.
        const [oldest] = this.#waiting;
        if (oldest !== undefined && performance.now() - oldest.sinceMs >= SILENCE_MS)
          this.#break(new Error('the server is silent'), true);
      });
      const settled =
        <T>(settle: (value: T) => void) =>
        (value: T): void => {
          stop();
          settle(value);
        };
      this.#waiting.push({ opaque, resolve: settled(resolve), reject: settled(reject), sinceMs: performance.now() });
      socket.cork();
      for (const part of encodeRequest(request, opaque)) socket.write(part);
      queueMicrotask(() => socket.uncork());
    });
  }

  #connected(signal: AbortSignal | undefined): Promise<Socket> {
    if (this.#closed) return Promise.reject(new Error('the connection was closed'));
    if (this.#connecting === undefined) {
      if (performance.now() < this.#notBeforeMs) return Promise.reject(new Error(this.#lastFault));
      this.#connecting = this.#connect();
      this.#connecting.catch(() => undefined);
    }
    const connecting = this.#connecting;
    return new Promise((resolve, reject) => {
      const stop = whenAborted(signal, reject);
      connecting.then(resolve, reject).finally(stop);
    });
  }

  async #connect(): Promise<Socket> {
    const { host, port, connectTimeoutMs, username, password, maxBodyBytes } = this.#address;
    const socket = connect({ host, port, noDelay: true });
    const reader = new ResponseReader(maxBodyBytes, (response, opaque) => this.#hear(response, opaque));
    const made = Promise.withResolvers<void>();
    const timer = setTimeout(() => socket.destroy(new Error('no connection within the time for it')), connectTimeoutMs);
    socket.once('connect', made.resolve);
    socket.on('error', (error) => {
      made.reject(error);
      if (this.#socket === socket) this.#break(error, true);
    });
    socket.on('close', () => {
      made.reject(new Error('the server closed the connection'));
      if (this.#socket === socket) this.#break(new Error('the server closed the connection'), true);
    });
    socket.on('data', (chunk) => {
      try {
        reader.push(chunk);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    try {
      await made.promise;
      if (this.#closed) throw new Error('the connection was closed');
      this.#socket = socket;
      if (username !== undefined) await this.#authenticate(socket, username, password ?? '');
      this.#pauseMs = 0;
      return socket;
    } catch (error) {
      socket.destroy();
      this.#break(error as Error, true);
      throw error;
    } finally {
      clearTimeout(timer);
      this.#connecting = undefined;
    }
  }

  async #authenticate(socket: Socket, username: string, password: string): Promise<void> {
    const value = [Buffer.from(`\0${username}\0${password}`)];
    const { status } = await this.#send(socket, { opcode: OPCODE.saslAuth, key: 'PLAIN', value }, undefined);
    if (status !== STATUS.ok) throw new Error('the server does not know this username and password');
  }

  #hear(response: MemcachedResponse, opaque: number): void {
    const waiting = this.#waiting.shift();
    if (waiting?.opaque === opaque) waiting.resolve(response);
    else {
      if (waiting !== undefined) this.#waiting.unshift(waiting);
      throw new Error('the server answered what was not asked');
    }
  }

  /** Gives the connection up: everything under way fails. */
  #break(error: Error, isFault: boolean): void {
    const socket = this.#socket;
    this.#socket = undefined;
    if (isFault) {
      this.#pauseMs = Math.min(MAX_PAUSE_MS, Math.max(FIRST_PAUSE_MS, 2 * this.#pauseMs));
      this.#notBeforeMs = performance.now() + this.#pauseMs;
      this.#lastFault = error.message;
    }
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
    socket?.destroy();
  }
}
