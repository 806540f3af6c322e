/** `inferkv serve`: serves the models of a repository over HTTP. */
import { Command } from 'commander';

import { createInferenceCache, type InferenceCache, type InferenceCacheOptions } from '../compose.ts';
import type { InferkvConfig } from '../config/schema.ts';
import { makeDemo } from './demo-models.ts';
import { createInferenceServer, type InferenceServer } from '../server/index.ts';
import { cacheOptionsOf } from './cache-options.ts';
import { configOf, print, printJson, withConfigFlags, withProgress, type CommonFlags } from './common.ts';

/** Flags of `serve`, and of commands that serve and do something besides. */
export interface ServeFlags extends CommonFlags {
  readonly demo?: true;
  readonly host?: string;
  readonly port?: string;
  readonly keysFile?: string;
  readonly logLevel?: string;
  readonly load?: readonly string[];
}

/** What goes along with serving: who listens to the partitions, what to say of it, and what to do when all is served. */
export interface Companion {
  readonly listen: NonNullable<InferenceCacheOptions['listen']>;
  readonly greeting: string;
  close(): Promise<void>;
}

export function serveCommand(): Command {
  return withServeFlags(new Command('serve'))
    .description('serves the models of a repository by the Open Inference Protocol v2')
    .action((flags: ServeFlags) => serve(flags));
}

/** Adds the flags of every command that serves. */
export function withServeFlags(command: Command): Command {
  return withConfigFlags(command)
    .option('--demo', 'serve the demo models: ResNet-50 with seeded weights, and models that read text')
    .option('--host <address>', 'where to listen; anything but loopback asks for keys')
    .option('--port <number>', 'where to listen; 0 takes a free port')
    .option('--keys-file <file>', 'the file of API keys (inferkv keys)')
    .option('--log-level <level>', 'silent, error, warn, info or debug; logs go to standard error')
    .option('--load <model...>', 'load these before the first request');
}

/** Serves until a signal comes. */
export async function serve(flags: ServeFlags, companion?: Companion): Promise<void> {
  const demo = flags.demo === true ? await withProgress('Writing the demo models', () => makeDemo()) : undefined;
  const given = demo === undefined ? flags : { ...flags, repository: demo.repository };
  const { config } = await configOf(given, {
    'server.host': flags.host,
    'server.port': flags.port,
    'server.keysFile': flags.keysFile,
    'server.logLevel': flags.logLevel,
  });
  const cache = createInferenceCache({
    ...cacheOptionsOf(config),
    ...(companion !== undefined && { listen: companion.listen }),
  });
  let server: InferenceServer | undefined;
  try {
    server = createInferenceServer(cache, config.server);
    const models = (await cache.list()).map(({ name }) => name);
    for (const name of flags.load ?? []) await withProgress(`Loading ${name}`, () => cache.model(name).load());
    const address = await server.listen();
    stopOnSignals(server, cache, companion);
    if (flags.json === true) printJson({ address, models });
    else {
      print(greeting(address, models, config, demo?.commands(address) ?? []));
      if (companion !== undefined) print(companion.greeting);
    }
  } catch (error) {
    await server?.close();
    await cache.close();
    throw error;
  }
}

/** The first signal lets accepted requests end; a second one does not wait for them. */
function stopOnSignals(server: InferenceServer, cache: InferenceCache, companion: Companion | undefined): void {
  let stopping = false;
  const stop = (signal: NodeJS.Signals): void => {
    if (stopping) process.exit(1);
    stopping = true;
    process.stderr.write(`${signal}: finishing what was accepted; once more stops at once.\n`);
    void server
      .close()
      .then(() => cache.close())
      .then(() => companion?.close());
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
}

function greeting(
  address: string,
  models: readonly string[],
  { repository = 'models' }: InferkvConfig,
  commands: readonly string[],
): string {
  const what = models.length === 0 ? `no models yet (none in ${repository})` : models.join(', ');
  return [
    `inferkv serves ${what} at ${address}`,
    ...(commands.length === 0 ? [] : ['', 'Try it from another terminal:', '', ...commands.map((each) => `  ${each}`)]),
    '',
    'Ctrl+C ends it.',
  ].join('\n');
}
