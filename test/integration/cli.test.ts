import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';

import sharp from 'sharp';

import { tensor } from '../../src/base/tensor.ts';
import { decodeNpy, encodeNpy } from '../../src/cli/npy.ts';
import { identity, scaling, twoByTwo } from '../support/models.ts';
import { TempFolder } from '../support/temp.ts';

const program = join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.ts');

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

describe('the command line', () => {
  let folder: TempFolder;
  const inferkv = (...args: string[]): Ended =>
    spawnSync(process.execPath, [program, ...args], {
      encoding: 'utf8',
      cwd: folder.path,
    });
  const json = <T>({ status, stdout, stderr }: Ended): T => {
    assert.deepEqual([status, stderr], [0, '']);
    return JSON.parse(stdout) as T;
  };

  before(() => {
    folder = new TempFolder();
    folder.write('models/scale/1/model.onnx', scaling(2));
    folder.write('models/scale/2/model.onnx', scaling(3));
    folder.write('models/scale/inferkv.json', '{"pinned": true}');
    folder.write('models/pair.onnx', twoByTwo());
    folder.write('models/image.onnx', identity('float32', ['N', 3, 4, 4]));
    folder.write('models/broken.onnx', 'no model');
  });

  after(() => folder[Symbol.dispose]());

  describe('run', () => {
    interface Report {
      readonly cache: { readonly status: string; readonly version: string };
      readonly outputs: Readonly<Record<string, { readonly shape: number[]; readonly data: number[] }>>;
    }

    it('takes inputs from .npy, .json and .raw files, and gives the same for each', () => {
      folder.write('x.npy', encodeNpy('x', tensor(Float32Array.of(1, 2, 3))));
      folder.write('x.json', '[1, 2, 3]');
      folder.write('x.raw', new Uint8Array(Float32Array.of(1, 2, 3).buffer));
      for (const file of ['x.npy', 'x.json', 'x.raw']) {
        const { cache, outputs } = json<Report>(inferkv('run', 'scale', '--input', `x=${file}`, '--json'));
        assert.deepEqual(
          [cache.status, cache.version, outputs['y']?.shape, outputs['y']?.data],
          ['miss', '2', [3], [3, 6, 9]],
        );
      }
      const first = json<Report>(inferkv('run', 'scale', '--model-version', '1', '--input', 'x=x.npy', '--json'));
      assert.deepEqual(first.outputs['y']?.data, [2, 4, 6]);
    });

    it('takes images, as the model wants them', async () => {
      const path = folder.at('red.png');
      await sharp({ create: { width: 8, height: 8, channels: 3, background: { r: 255, g: 0, b: 0 } } })
        .png()
        .toFile(path);
      folder.write(
        'models/image/inferkv.json',
        '{"image": {"height": 4, "width": 4, "channels": "bgr", "mean": [0, 0, 0.5]}}',
      );
      const { outputs } = json<Report>(inferkv('run', 'image', '--input', 'x=red.png', '--json'));
      assert.deepEqual(outputs['y']?.shape, [1, 3, 4, 4]);
      assert.deepEqual([...new Set(outputs['y']?.data)], [0, 0.5]);
    });

    it('gives only the outputs asked for, and writes them to files', () => {
      folder.write('a.json', '[[5, 7]]');
      folder.write('b.json', '[[1, 2]]');
      const inputs = ['--input', 'a=a.json', 'b=b.json'];
      const { status, stdout } = inferkv('run', 'pair', ...inputs, '--output', 'sum', '--save', 'sum=sum.npy');
      assert.equal(status, 0);
      assert.match(stdout, /^pair 1: ran in [\d.]+ ms\n {2}sum {2}float32 \[1, 2\] {2}6 9\n$/);
      const saved = decodeNpy('sum.npy', readFileSync(folder.at('sum.npy')));
      assert.deepEqual(
        [saved.shape, Array.from(saved.data, Number)],
        [
          [1, 2],
          [6, 9],
        ],
      );
    });

    it('ends with a code that says of what kind the failure was, and one line on what to do', () => {
      folder.write('wrong.npy', encodeNpy('x', tensor(Float64Array.of(1))));
      folder.write('x.txt', '1');
      const cases: readonly (readonly [args: string[], status: number, says: RegExp])[] = [
        [['run', 'scale', '--input', 'x=wrong.npy'], 4, /takes float32/],
        [['run', 'scale', '--input', 'z=x.npy'], 4, /no input "z"; it takes "x"/],
        [['run', 'scale', '--input', 'x=nowhere.npy'], 4, /nowhere\.npy cannot be read/],
        [['run', 'scale', '--input', 'x=x.txt'], 4, /there are \.npy/],
        [['run', 'scale', '--input', 'x=red.png'], 4, /takes no image/],
        [['run', 'scale', '--input', 'x.npy'], 2, /name=file/],
        [['run', 'scale'], 2, /--input/],
        [['run', 'nothing', '--input', 'x=x.npy'], 3, /There is no model "nothing"/],
        [['run', '../scale', '--input', 'x=x.npy'], 2, /no model name/],
        [['run', 'broken', '--input', 'x=x.npy'], 1, /ERR_INFERKV_ARTIFACT_INVALID/],
        [['models', '--repository', 'nowhere'], 3, /cannot be read/],
        [['models', '--set', 'server.port'], 2, /path=value/],
        [['models', '--set', 'partitions.results.policy=best'], 2, /best/],
        [['serve', '--host', '0.0.0.0'], 2, /inferkv keys add/],
        [['fly'], 2, /unknown command/],
      ];
      for (const [args, status, says] of cases) {
        const ended = inferkv(...args);
        assert.deepEqual([ended.status, ended.stdout], [status, ''], `${args.join(' ')}: ${ended.stderr}`);
        assert.match(ended.stderr, says);
      }
      const { status, stderr } = inferkv('run', 'nothing', '--input', 'x=x.npy', '--json');
      assert.equal(status, 3);
      const { error } = JSON.parse(stderr) as { error: { code: string; message: string } };
      assert.equal(error.code, 'ERR_INFERKV_MODEL_NOT_FOUND');
    });
  });

  it('models lists what there is, and what is wrong with it', () => {
    const { status, stdout, stderr } = inferkv('models');
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout, /^ {2}model +version +engine +size +content +settings\n/);
    assert.match(stdout, /\n {2}scale +2 +onnx +\d+ B +[0-9a-f]{12} +\{"pinned":true\}\n/);
    const models = json<{ name: string; digest: string }[]>(inferkv('models', '--json'));
    assert.deepEqual(
      models.map(({ name }) => name),
      ['broken', 'image', 'pair', 'scale', 'scale'],
    );
  });

  it('config shows every value and where it came from', () => {
    folder.write('inferkv.config.json', '{"recheckMs": 5}');
    const { status, stdout } = inferkv('config', '--set', 'server.port=9000');
    assert.equal(status, 0);
    assert.match(stdout, /\n {2}recheckMs +5 +.*inferkv\.config\.json\n/);
    assert.match(stdout, /\n {2}server\.port +9000 +flag\n/);
    assert.match(stdout, /\n {2}server\.host +127\.0\.0\.1 +default\n/);
    const { settings } = json<{ settings: { path: string; value: unknown }[] }>(inferkv('config', '--json'));
    assert.equal(settings.find(({ path }) => path === 'recheckMs')?.value, 5);
  });

  it('keys makes, lists, rotates and takes away, and never shows a key twice', () => {
    interface Key {
      readonly key?: string;
      readonly id: string;
      readonly tenant: string;
      readonly role: string;
      readonly expiresAt?: string;
    }
    const keys = <T>(...args: string[]): T => json<T>(inferkv('keys', ...args, '--keys-file', 'keys.json', '--json'));
    const made = keys<Key>('add', '--tenant', 'acme');
    assert.deepEqual([made.tenant, made.role], ['acme', 'infer']);
    keys('add', '--tenant', 'operators', '--role', 'admin');
    assert.ok(!readFileSync(folder.at('keys.json'), 'utf8').includes(made.key ?? '?'));
    const rotated = keys<Key>('rotate', made.id, '--keep-minutes', '60');
    assert.deepEqual([rotated.tenant, rotated.role, rotated.id === made.id], ['acme', 'infer', false]);
    const listed = keys<Key[]>('list');
    assert.deepEqual(
      listed.map(({ tenant, expiresAt }) => [tenant, expiresAt !== undefined]),
      [
        ['operators', false],
        ['acme', true],
        ['acme', false],
      ],
    );
    keys('remove', made.id);
    assert.deepEqual(
      keys<Key[]>('list')
        .map(({ id }) => id)
        .includes(made.id),
      false,
    );
    assert.equal(inferkv('keys', 'remove', made.id, '--keys-file', 'keys.json').status, 2);
    assert.match(inferkv('keys', 'list').stderr, /--keys-file/);
  });

  describe('serve', () => {
    async function firstLines(child: ChildProcessWithoutNullStreams, until: RegExp): Promise<string> {
      let text = '';
      for await (const chunk of child.stdout) {
        text += String(chunk);
        if (until.test(text)) return text;
      }
      throw new Error(`The server ended after: ${text}`);
    }
    const start = (...args: string[]): ChildProcessWithoutNullStreams =>
      spawn(process.execPath, [program, 'serve', '--port', '0', ...args], { cwd: folder.path });

    it('prints where it serves, answers, and ends well when it is told to', async () => {
      const child = start('--json', '--load', 'scale');
      const { address, models } = JSON.parse(await firstLines(child, /\n/)) as { address: string; models: string[] };
      assert.deepEqual(models, ['broken', 'image', 'pair', 'scale']);
      const metrics = await (await fetch(`${address}/metrics`)).text();
      assert.match(metrics, /inferkv_model_loads_total\{model="scale"\} 1/);
      child.kill('SIGTERM');
      assert.deepEqual(await once(child, 'exit'), [0, null]);
    });

    it('serves the demo models, and the commands it prints work as they stand', async () => {
      using cacheFolder = new TempFolder();
      const child = spawn(process.execPath, [program, 'serve', '--demo', '--port', '0'], {
        cwd: folder.path,
        env: { ...process.env, XDG_CACHE_HOME: cacheFolder.path },
      });
      const text = await firstLines(child, /Ctrl\+C/);
      assert.match(
        text,
        /^inferkv serves resnet50, text-detection, text-direction, text-recognition at http:\/\/127\.0\.0\.1:\d+\n/,
      );
      const commands = text.split('\n').flatMap((line) => (line.startsWith('  curl ') ? [line.trim()] : []));
      assert.equal(commands.length, 3);
      const run = async (command: string | undefined): Promise<string> => {
        const shell = spawn('sh', ['-c', command ?? 'false']);
        let output = '';
        shell.stdout.on('data', (chunk) => (output += String(chunk)));
        assert.deepEqual(await once(shell, 'close'), [0, null], `${command}\n${output}`);
        return output;
      };
      assert.match(await run(commands[0]), /"name":"resnet50"/);
      assert.match(await run(commands[1]), /cache-status: inferkv; fwd=miss/);
      assert.match(await run(commands[1]), /cache-status: inferkv; hit; tier=memory; saved-ms=\d+/);
      assert.match(await run(commands[2]), /inferkv_answers_total\{model="resnet50",status="hit"\} 1/);
      child.kill('SIGINT');
      assert.deepEqual(await once(child, 'exit'), [0, null]);
    });
  });
});
