import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** A folder that is gone when its scope ends. */
export class TempFolder implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), 'inferkv-test-'));

  /** The path of a name in it. */
  at(...names: string[]): string {
    return join(this.path, ...names);
  }

  /** Writes a file in it, with the folders on the way; gives its path. */
  write(name: string, content: string | Uint8Array): string {
    const path = this.at(name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    return path;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
