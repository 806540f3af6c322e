/**
 * `npm run check:tarball`: what a user gets. Packs the package, installs it into an empty folder, runs the README's first
 * example there as it stands, then takes the optional peer away and expects to be told how to install it.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'inferkv-tarball-'));

function npm(cwd: string, ...args: string[]): void {
  process.stdout.write(`$ npm ${args.join(' ')}\n`);
  execFileSync('npm', args, { cwd, stdio: ['ignore', 'ignore', 'inherit'] });
}

function example(): { readonly status: number | null; readonly output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['example.mjs'], { cwd: folder, encoding: 'utf8' });
  return { status, output: `${stdout}${stderr}` };
}

function expect(condition: boolean, what: string, output: string): void {
  process.stdout.write(`${condition ? 'ok    ' : 'FAILED'}  ${what}\n`);
  if (condition) return;
  process.stdout.write(`${output}\n`);
  process.exitCode = 1;
}

try {
  const firstExample = /```js\n(?<code>[\s\S]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))?.groups?.[
    'code'
  ];
  if (firstExample === undefined) throw new Error('README.md has no example in ```js');
  npm(root, 'pack', '--silent', '--pack-destination', folder);
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'));
  if (tarball === undefined) throw new Error('npm pack made no tarball');
  writeFileSync(join(folder, '.npmrc'), 'onnxruntime-node-install=skip\n');
  writeFileSync(join(folder, 'package.json'), '{ "name": "empty", "private": true }\n');
  writeFileSync(join(folder, 'example.mjs'), firstExample);
  npm(folder, 'install', '--no-audit', '--no-fund', `./${tarball}`, 'onnxruntime-node@^1.30.0');

  const whole = example();
  expect(
    whole.status === 0 && /\bmiss\b[\s\S]*\bhit\b/.test(whole.output),
    'the first example of the README runs',
    whole.output,
  );
  process.stdout.write(whole.output.replaceAll(/^/gm, '        '));

  const cli = spawnSync(join(folder, 'node_modules', '.bin', 'inferkv'), ['--version'], { encoding: 'utf8' });
  expect(cli.status === 0 && /^\d+\.\d+\.\d+/.test(cli.stdout), 'the command line runs', cli.stderr);

  npm(folder, 'uninstall', '--no-audit', '--no-fund', 'onnxruntime-node');
  const without = example();
  const told =
    without.output.includes('ERR_INFERKV_PEER_MISSING') && without.output.includes('npm install onnxruntime-node');
  expect(without.status !== 0 && told, 'without onnxruntime-node it says how to install it', without.output);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
