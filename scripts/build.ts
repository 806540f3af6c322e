/** Builds `dist/` from `src/`: JavaScript and declarations, without the tests. */
import { rmSync } from 'node:fs';

import { run } from './run.ts';

rmSync('dist', { recursive: true, force: true });
process.exitCode = run('tsc', ['-p', 'tsconfig.build.json']);
