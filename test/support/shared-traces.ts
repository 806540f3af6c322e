import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Where the traces lie that are not part of the project, and why a test of them is skipped, if they are not there. */
export function sharedTrace(name: string): { readonly path: string; readonly skip: string | false } {
  const path = join(import.meta.dirname, '..', '..', '..', 'shared', 'traces', name);
  return { path, skip: existsSync(path) ? false : `there is no ${path}` };
}
