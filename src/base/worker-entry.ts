/**
 * The file a worker thread starts from: beside the module that asks, with that module's own ending, so that it is found
 * in the TypeScript sources and in the built package alike.
 *
 * @param moduleUrl `import.meta.url` of the module that starts the worker
 * @param name the worker's file without its ending, such as `./worker`
 */
export function workerEntry(moduleUrl: string, name: string): URL {
  const ending = new URL(moduleUrl).pathname.endsWith('.ts') ? '.ts' : '.js';
  return new URL(`${name}${ending}`, moduleUrl);
}
