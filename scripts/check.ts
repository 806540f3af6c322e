/** `npm run check`: what can be said about the code without running it. Runs every step, then tells which failed. */
import { run } from './run.ts';

const STEPS = ['types', 'lint', 'format', 'boundaries', 'unused', 'package'];

const results = STEPS.map((step) => {
  process.stdout.write(`\n== check:${step}\n`);
  return { step, failed: run('npm', ['run', '--silent', `check:${step}`]) !== 0 };
});

process.stdout.write(`\n${results.map(({ step, failed }) => `${failed ? 'FAILED' : 'ok    '}  ${step}`).join('\n')}\n`);
process.exitCode = results.some(({ failed }) => failed) ? 1 : 0;
