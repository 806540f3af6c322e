/**
 * Ending a thread in the middle of a native run aborts the whole process. So a process that exits while runs are under
 * way waits, in its exit handler, until they have ended: each thread counts itself in and out of native code on one
 * shared counter. Waiting on an atomic is right here only because nothing else can happen in this thread any more.
 */

const COUNT = 0;
const EXITING = 1;
const MAX_EXIT_WAIT_MS = 30_000;

/** The shared counter, handed to every worker thread at its start. */
export type ExitGuardMemory = Int32Array<SharedArrayBuffer>;

let memory: ExitGuardMemory | undefined;

/** The counter of this process; the first call installs the exit handler. For the thread that starts the workers. */
export function exitGuardMemory(): ExitGuardMemory {
  if (memory !== undefined) return memory;
  const counter = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
  memory = counter;
  process.on('exit', () => {
    Atomics.store(counter, EXITING, 1);
    const until = performance.now() + MAX_EXIT_WAIT_MS;
    for (;;) {
      const inside = Atomics.load(counter, COUNT);
      const leftMs = until - performance.now();
      if (inside === 0 || leftMs <= 0) return;
      Atomics.wait(counter, COUNT, inside, leftMs);
    }
  });
  return counter;
}

/** Runs native code so that an exit waits for its end. For worker threads. */
export async function guarded<T>(counter: ExitGuardMemory, work: () => Promise<T> | T): Promise<T> {
  Atomics.add(counter, COUNT, 1);
  // Counted in before looking, so that the exiting thread either sees this one or is seen by it.
  const exiting = Atomics.load(counter, EXITING) === 1;
  try {
    if (!exiting) return await work();
  } finally {
    Atomics.sub(counter, COUNT, 1);
    Atomics.notify(counter, COUNT);
  }
  // Nothing new may begin: this thread is about to be ended.
  return new Promise<never>(() => undefined);
}
