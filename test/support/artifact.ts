import { hash } from 'node:crypto';

import type { Artifact } from '../../src/engines/engine.ts';
import type { TempFolder } from './temp.ts';

/** Writes a model file and names its content. */
export function artifactIn(folder: TempFolder, name: string, content: Uint8Array): Artifact {
  const path = folder.write(name, content);
  const digest = hash('sha256', content);
  const sizeBytes = content.byteLength;
  return { digest, path, sizeBytes, files: [{ name: '', path, sizeBytes, digest }] };
}
