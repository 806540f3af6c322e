/**
 * `npm run check:tarball`: what a user gets. Packs the package, installs it into an empty folder, runs the README's first
 * example there as it stands, serves the demo models, takes the optional peer away and expects to be told how to install
 * it; then builds the addon for TorchScript from its own package and runs ResNet-50 on it.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
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

/** Serves the demo models by the installed package and asks one of them, in JSON that is long enough for a thread of its own. */
async function serves(): Promise<{ readonly status: number; readonly cacheStatus: string; readonly exit: unknown }> {
  const command = join(folder, 'node_modules', '.bin', 'inferkv');
  const child = spawn(command, ['serve', '--demo', '--port', '0', '--json'], { cwd: folder });
  const ended = once(child, 'exit');
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const { address } = JSON.parse(line.toString()) as { address: string };
  const data = Array.from({ length: 3 * 224 * 224 }, () => 0.5);
  const response = await fetch(`${address}/v2/models/resnet50/infer`, {
    method: 'POST',
    body: JSON.stringify({ inputs: [{ name: 'input', datatype: 'FP32', shape: [1, 3, 224, 224], data }] }),
  });
  await response.arrayBuffer();
  child.kill('SIGTERM');
  const [exit] = (await ended) as [unknown];
  return { status: response.status, cacheStatus: response.headers.get('cache-status') ?? '', exit };
}

const TORCH_EXAMPLE = `
import { createInferenceCache } from 'inferkv';
import { torchscriptRepository, syntheticImage } from 'inferkv/demo';
await using cache = createInferenceCache({ repository: await torchscriptRepository() });
const { outputs } = await cache.model('resnet50').run({ x: syntheticImage() });
console.log(outputs.output.shape.join('x'));
`;

/** A TorchScript model, first without the addon's package, then with it. */
function torchscript(): void {
  writeFileSync(join(folder, 'example.mjs'), TORCH_EXAMPLE);
  const without = example();
  const told = without.output.includes('npm install inferkv-torchscript && npx inferkv build-torch');
  expect(without.status !== 0 && told, 'without its addon, TorchScript says how to set it up', without.output);
  npm(root, 'pack', '--silent', '--workspace', 'native/torchscript', '--pack-destination', folder);
  const tarball = readdirSync(folder).find((name) => name.startsWith('inferkv-torchscript-'));
  npm(folder, 'install', '--no-audit', '--no-fund', `./${tarball}`);
  const built = spawnSync(join(folder, 'node_modules', '.bin', 'inferkv'), ['build-torch'], { encoding: 'utf8' });
  expect(built.status === 0 && built.stdout.startsWith('Built for libtorch'), 'the addon is built', built.stderr);
  const runs = example();
  expect(runs.status === 0 && runs.output.includes('1x1000'), 'and runs ResNet-50', runs.output);
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

  const served = await serves();
  expect(
    served.status === 200 && served.cacheStatus.startsWith('inferkv; fwd=miss'),
    'it serves',
    JSON.stringify(served),
  );
  expect(served.exit === 0, 'and ends when it is told to', String(served.exit));

  npm(folder, 'uninstall', '--no-audit', '--no-fund', 'onnxruntime-node');
  const without = example();
  const told =
    without.output.includes('ERR_INFERKV_PEER_MISSING') && without.output.includes('npm install onnxruntime-node');
  expect(without.status !== 0 && told, 'without onnxruntime-node it says how to install it', without.output);
  torchscript();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
