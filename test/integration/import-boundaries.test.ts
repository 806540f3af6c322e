import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';

const root = join(import.meta.dirname, '..', '..');

interface Cruise {
  readonly summary: {
    readonly totalCruised: number;
    readonly violations: readonly {
      readonly from: string;
      readonly to: string;
      readonly rule: { readonly name: string };
    }[];
  };
}

/** Cruises `src/` of a folder with the project's rules. */
function cruise(cwd: string): Cruise['summary'] {
  const tool = join(root, 'node_modules', '.bin', 'depcruise');
  const config = join(root, '.dependency-cruiser.mjs');
  const { stdout, stderr } = spawnSync(process.execPath, [tool, '--config', config, '--output-type', 'json', 'src'], {
    cwd,
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  assert.notEqual(stdout, '', stderr);
  return (JSON.parse(stdout) as Cruise).summary;
}

describe('import boundaries', () => {
  let folder = '';
  const write = (path: string, content: string): void => {
    mkdirSync(join(folder, path, '..'), { recursive: true });
    writeFileSync(join(folder, path), content);
  };

  before(() => {
    // Inside the project, so that the packages that the probe imports are found.
    mkdirSync(join(root, '.cache'), { recursive: true });
    folder = mkdtempSync(join(root, '.cache', 'boundaries-'));
    write(
      'tsconfig.json',
      '{ "compilerOptions": { "module": "nodenext", "allowImportingTsExtensions": true, "noEmit": true } }',
    );
    write('src/base/upwards.ts', "import { kept } from '../cache/kept.ts';\nexport const upwards: number = kept;\n");
    write('src/cache/kept.ts', 'export const kept: number = 1;\n');
    write('src/cache/round.ts', "import { trip } from './trip.ts';\nexport const round: number = trip;\n");
    write('src/cache/trip.ts', "import { round } from './round.ts';\nexport const trip: number = round;\n");
    write('src/cache/heavy.ts', "import sharp from 'sharp';\nexport const heavy: unknown = sharp;\n");
    write('src/elsewhere/new.ts', "import { kept } from '../cache/kept.ts';\nexport const anew: number = kept;\n");
    write('src/engines/side.ts', "import type { kept } from '../models/model.ts';\nexport type Side = typeof kept;\n");
    write('src/models/model.ts', 'export const kept: number = 1;\n');
  });

  after(() => rmSync(folder, { recursive: true, force: true }));

  it('holds for the project itself, all of it', () => {
    const { totalCruised, violations } = cruise(root);
    assert.deepEqual(violations, []);
    // The tool reports success with nothing cruised where it cannot read TypeScript.
    assert.ok(totalCruised > 40, `only ${totalCruised} modules were cruised`);
  });

  it('catches each kind of violation', () => {
    const { violations } = cruise(folder);
    const caught = new Set(violations.map(({ from, rule }) => `${from}: ${rule.name}`));
    for (const expected of [
      'src/base/upwards.ts: imports-go-down-from-base',
      'src/cache/heavy.ts: sharp-has-one-door',
      'src/elsewhere/new.ts: every-folder-has-its-place',
      'src/engines/side.ts: imports-go-down-from-engines',
    ]) {
      assert.ok(caught.has(expected), `${expected} is not among ${[...caught].join('; ')}`);
    }
    assert.ok(
      [...caught].some((each) => each.endsWith('no-circles')),
      'the circle was not caught',
    );
  });
});
