import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** What a built addon was made from; it lies beside the addon. */
export interface BuildStamp {
  /** SHA-256 over sources, flags, headers and libtorch's version and place: equal, and there is nothing to build. */
  readonly digest: string;
  readonly torchVersion: string;
  /** The addon, absolute. */
  readonly path: string;
}

const STAMP_FILE = 'build.json';
const ADDON_FILE = 'inferkv_torchscript.node';

/** Where things lie in the folder of the addon's package. */
export function buildPaths(packageFolder: string): {
  readonly folder: string;
  readonly addon: string;
  readonly stamp: string;
} {
  const folder = join(packageFolder, 'build');
  return { folder, addon: join(folder, ADDON_FILE), stamp: join(folder, STAMP_FILE) };
}

/** The stamp of what was built last; `undefined` if nothing was. */
export function readStamp(packageFolder: string): BuildStamp | undefined {
  const { addon, stamp } = buildPaths(packageFolder);
  try {
    const { digest, torchVersion } = JSON.parse(readFileSync(stamp, 'utf8')) as Partial<BuildStamp>;
    if (typeof digest !== 'string' || typeof torchVersion !== 'string') return undefined;
    return { digest, torchVersion, path: addon };
  } catch {
    return undefined;
  }
}
