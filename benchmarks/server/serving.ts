/** Our server over the benchmark's repository, and a watch on its event loop. */
import { createInferenceCache } from '../../src/index.ts';
import { createInferenceServer } from '../../src/server/index.ts';
import { watchLoop } from '../suite.ts';

const cache = createInferenceCache({ repository: process.argv[2] ?? '' });
const server = createInferenceServer(cache, { port: 0 });
const address = await server.listen();
await Promise.all(['small', 'resnet50'].map((name) => cache.model(name).load()));

process.on('disconnect', () => process.exit());
process.on('message', ({ watchMs }: { readonly watchMs: number }) => {
  void watchLoop(performance.now() + watchMs).then((gaps) => process.send?.(gaps));
});
process.send?.({ port: Number(new URL(address).port) });
