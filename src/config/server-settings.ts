import { z } from 'zod';

/** How a server is set up. Sizes are bytes, texts like `64MB`, or shares of the memory the process may use (`10%`). */
export interface ServerOptions {
  /** Address to listen at; `127.0.0.1` if left out. Anything outside loopback needs `keysFile`. */
  readonly host?: string | undefined;
  /** 8000 if left out; 0 takes a free one. */
  readonly port?: number | undefined;
  /** A file of API keys (`inferkv keys`); without it whoever reaches the server may do everything. */
  readonly keysFile?: string | undefined;
  /** One request's body at most; 64 MB if left out. */
  readonly maxBodyBytes?: number | string | undefined;
  /** All bodies that are in memory at one time; 512 MB if left out. */
  readonly maxBufferedBytes?: number | string | undefined;
  /** Inference requests under way at most; 1,024 if left out. */
  readonly maxConcurrent?: number | undefined;
  /** Of one tenant; as many as there may be at all if left out. */
  readonly maxConcurrentPerTenant?: number | undefined;
  /** Open connections at most; 16,384 if left out. */
  readonly maxConnections?: number | undefined;
  /** Milliseconds within which a request must have arrived as a whole; 60,000 if left out. */
  readonly requestTimeoutMs?: number | undefined;
  /** Milliseconds a client may take without progress to receive its answer; 60,000 if left out. */
  readonly responseTimeoutMs?: number | undefined;
  /** Milliseconds after which an answer is given up; 300,000 if left out. */
  readonly deadlineMs?: number | undefined;
  /** Milliseconds that requests under way have to end when the server shuts down; 30,000 if left out. */
  readonly shutdownTimeoutMs?: number | undefined;
  /** What is logged, as lines of JSON: `silent`, `error`, `warn`, `info` or `debug`; `warn` if left out. */
  readonly logLevel?: string | undefined;
}

/** Options of a server without those that may stay away. */
export type ServerDefaults = {
  readonly [Name in Exclude<keyof ServerOptions, 'keysFile' | 'maxConcurrentPerTenant'>]-?: NonNullable<
    ServerOptions[Name]
  >;
};

/** What holds where `ServerOptions` say nothing. */
export const SERVER_DEFAULTS: ServerDefaults = {
  host: '127.0.0.1',
  port: 8000,
  maxBodyBytes: '64MB',
  maxBufferedBytes: '512MB',
  maxConcurrent: 1024,
  maxConnections: 16_384,
  requestTimeoutMs: 60_000,
  responseTimeoutMs: 60_000,
  deadlineMs: 300_000,
  shutdownTimeoutMs: 30_000,
  logLevel: 'warn',
};

const bytes = z.union([z.number().positive(), z.string().min(1)]);
const milliseconds = z.number().positive();
const count = z.number().int().positive();

/** Checks server options. */
export const serverSchema: z.ZodType<ServerOptions> = z.strictObject({
  host: z.string().min(1).optional(),
  port: z.number().int().min(0).max(65_535).optional(),
  keysFile: z.string().min(1).optional(),
  maxBodyBytes: bytes.optional(),
  maxBufferedBytes: bytes.optional(),
  maxConcurrent: count.optional(),
  maxConcurrentPerTenant: count.optional(),
  maxConnections: count.optional(),
  requestTimeoutMs: milliseconds.optional(),
  responseTimeoutMs: milliseconds.optional(),
  deadlineMs: milliseconds.optional(),
  shutdownTimeoutMs: milliseconds.optional(),
  logLevel: z.enum(['silent', 'error', 'warn', 'info', 'debug']).optional(),
});
