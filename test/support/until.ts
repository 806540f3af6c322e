import { setTimeout as pause } from 'node:timers/promises';

const PATIENCE_MS = 15_000;

/** Looks again and again until something holds that another process, or the network, brings about. */
export async function until(holds: () => Promise<boolean> | boolean, withinMs: number = PATIENCE_MS): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`it did not come about within ${withinMs} ms`);
    await pause(5);
  }
}
