/**
 * A process that holds ResNet-50 in so many worker threads (0: none, only what the process takes by itself), has run it
 * in each, and prints its private dirty memory. Its arguments: the repository, the number of workers.
 */
import { readFileSync } from 'node:fs';

import { createInferenceCache } from '../../src/index.ts';
import { syntheticImage } from '../../src/demo/index.ts';

/** What it prints, as JSON; nothing where the system does not say. */
export interface MemoryReport {
  readonly privateBytes?: number;
}

const BYTES_PER_KB = 1024;

function privateDirtyBytes(): number | undefined {
  try {
    const text = readFileSync('/proc/self/smaps_rollup', 'utf8');
    const kilobytes = /^Private_Dirty:\s+(?<kb>\d+)/m.exec(text)?.groups?.['kb'];
    return kilobytes === undefined ? undefined : Number(kilobytes) * BYTES_PER_KB;
  } catch {
    return undefined;
  }
}

const [, , repository = '', count = '1'] = process.argv;
const workers = Number(count);
await using cache = createInferenceCache({
  repository,
  ...(workers > 0 && { models: { resnet50: { session: { workers } } } }),
});
if (workers > 0) {
  const model = cache.model('resnet50');
  const [input] = (await model.metadata()).inputs;
  const inputs = { [input?.name ?? '']: syntheticImage() };
  // As many at a time as there are workers, so that each has its turn.
  for (let round = 0; round < 3; round++) {
    await Promise.all(Array.from({ length: workers }, () => model.run(inputs, { cache: 'bypass' })));
  }
}
globalThis.gc?.();
const privateBytes = privateDirtyBytes();
process.stdout.write(JSON.stringify({ ...(privateBytes !== undefined && { privateBytes }) } satisfies MemoryReport));
