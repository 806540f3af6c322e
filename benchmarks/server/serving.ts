/** Our server over the benchmark's repository, and a watch on its event loop. */
import { createInferenceCache } from '../../src/index.ts';
import { createInferenceServer } from '../../src/server/index.ts';

const cache = createInferenceCache({ repository: process.argv[2] ?? '' });
const server = createInferenceServer(cache, { port: 0 });
const address = await server.listen();
await Promise.all(['small', 'resnet50'].map((name) => cache.model(name).load()));

process.on('disconnect', () => process.exit());
process.on('message', ({ watchMs }: { readonly watchMs: number }) => {
  void loopGaps(watchMs).then((gaps) => process.send?.(gaps));
});
process.send?.({ port: Number(new URL(address).port) });

/** Milliseconds from one tick of a 1 ms timer to the next. */
async function loopGaps(forMs: number): Promise<readonly number[]> {
  const gaps: number[] = [];
  const until = performance.now() + forMs;
  for (let last = performance.now(); last < until;) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    const now = performance.now();
    gaps.push(now - last);
    last = now;
  }
  return gaps;
}
