import { createInferenceCache, type InferenceCache, type InferenceCacheOptions } from '../../src/compose.ts';
import { createInferenceServer, type InferenceServer, type ServerOptions } from '../../src/server/index.ts';
import { ProtocolClient } from './protocol-client.ts';
import { TempFolder } from './temp.ts';

/** A server over a folder of models, on a free port. */
export interface Serving extends AsyncDisposable {
  readonly folder: TempFolder;
  readonly cache: InferenceCache;
  readonly server: InferenceServer;
  readonly address: string;
  readonly port: number;
  readonly client: ProtocolClient;
}

/** Serves models given by their files: `{ 'scale/1/model.onnx': bytes }`. */
export async function serving(
  files: Readonly<Record<string, string | Uint8Array>>,
  options: {
    readonly server?: ServerOptions;
    readonly cache?: InferenceCacheOptions;
    readonly apiKey?: string;
  } = {},
): Promise<Serving> {
  const folder = new TempFolder();
  for (const [name, content] of Object.entries(files)) folder.write(name, content);
  const cache = createInferenceCache({ repository: folder.path, ...options.cache });
  const server = createInferenceServer(cache, { port: 0, logLevel: 'silent', ...options.server });
  const address = await server.listen();
  return {
    folder,
    cache,
    server,
    address,
    port: Number(new URL(address).port),
    client: new ProtocolClient(address, options.apiKey),
    [Symbol.asyncDispose]: async () => {
      await server.close();
      await cache.close();
      folder[Symbol.dispose]();
    },
  };
}
