/** The thread of a live what-if: replays what it is sent. */
import { parentPort, workerData } from 'node:worker_threads';

import type { FromWhatIf, ToWhatIf } from './what-if-messages.ts';
import { WhatIfCaches, type WhatIfOptions } from './what-if.ts';

const caches = new WhatIfCaches(workerData as WhatIfOptions);

parentPort?.on('message', (message: ToWhatIf) => {
  if (message.kind === 'uses') {
    caches.take(message.uses);
    answer({ kind: 'picks', picks: caches.picks });
  } else if (message.kind === 'reset') caches.reset();
  else answer({ kind: 'estimates', number: message.number, estimates: caches.estimates() });
});

function answer(message: FromWhatIf): void {
  parentPort?.postMessage(message);
}
