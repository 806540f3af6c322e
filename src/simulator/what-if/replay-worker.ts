/** The thread that the shadows of a what-if replay in. */
import { parentPort, workerData } from 'node:worker_threads';

import { Estimator } from './estimator.ts';
import { ASKED, CLOSED, ReferenceRing, RESET } from './reference-ring.ts';
import type { ReplayThreadData } from './replay-thread.ts';

const { options, memory } = workerData as ReplayThreadData;
const ring = new ReferenceRing(memory);
const estimator = new Estimator(options, ring);

for (let commands = 0; (commands & CLOSED) === 0;) {
  // Taken before the look, so that nobody who calls meanwhile is slept through.
  const wakings = ring.wakings();
  commands = ring.commands();
  const records = estimator.drain();
  if ((commands & RESET) !== 0) estimator.reset();
  if ((commands & ASKED) !== 0) parentPort?.postMessage(estimator.estimates());
  if (commands === 0) ring.sleep(wakings, records > 0);
}
