import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';

import sharp from 'sharp';

import {
  demoRepository,
  readImage,
  readLabels,
  readPixels,
  readText,
  SAMPLE_IMAGE,
  topClasses,
} from '../../src/demo/index.ts';
import { createInferenceCache } from '../../src/index.ts';
import { torchAbsent, torchModel } from '../support/torchscript.ts';

const cli = join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.ts');

const NOTICE = [
  'Reading Room',
  'Open Monday to Friday, 9:00 - 17:30',
  'Please keep what you have read on the shelf:',
  'someone else will ask for the same book.',
  'Shelf 25 Row 4 No. 1729',
  'Thank you for not asking twice.',
];

describe('the demo', () => {
  let folder = '';
  const demo = (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(process.execPath, [cli, 'demo', ...args], {
      encoding: 'utf8',
      env: { ...process.env, XDG_CACHE_HOME: folder },
    });

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'inferkv-demo-'));
  });

  after(() => rmSync(folder, { recursive: true, force: true }));

  it('writes the model and prints the four ways with what they take', () => {
    const { status, stdout, stderr } = demo();
    assert.equal(status, 0, stderr);
    // TorchScript beside ONNX where it is set up; else the line that sets it up.
    const engines = torchAbsent() === false ? 2 : 1;
    assert.equal(/TorchScript is left out.*(?:build:torch|python3-torch)/.test(stdout), engines === 1);
    for (const row of ['load every time', 'first run', 'resident', 'cached result']) {
      assert.match(stdout, new RegExp(`^ {2}${row}(?: +[\\d.]+ ms +[\\d.]+ x){${engines}}$`, 'm'));
    }
    assert.match(stdout, /weights are seeded, not trained/);
    for (const line of NOTICE) assert.ok(stdout.includes(`\n  ${line}\n`), stdout);
    assert.match(stdout, /\n {2}first time +[\d.]+ ms +[\d.]+ ms of it in the models, 0 of 7 answers from the cache\n/);
    assert.match(
      stdout,
      /\n {2}second time +[\d.]+ ms +[\d.]+ ms of it in the models, 7 of 7 answers from the cache\n/,
    );
  });

  it('reads the text on an image, and the second time finds all answers', async () => {
    const repository = await demoRepository({ folder: join(folder, 'inferkv', 'demo-models') });
    await using cache = createInferenceCache({ repository });
    const image = await readPixels(SAMPLE_IMAGE);
    const first = await readText(cache, image);
    assert.deepEqual(
      first.lines.map(({ text }) => text),
      NOTICE,
    );
    for (const { box } of first.lines) {
      assert.ok(box.left >= 0 && box.left + box.width <= image.width && box.top + box.height <= image.height);
    }
    const second = await readText(cache, image);
    assert.deepEqual(second.lines, first.lines);
    assert.ok([second.detection, ...second.recognition].every(({ hit }) => hit));
    const white = { width: 64, height: 40, data: new Uint8Array(64 * 40 * 3).fill(255) };
    assert.deepEqual((await readText(cache, white)).lines, []);
    const figures = JSON.parse(demo('text', '--json').stdout) as { lines: { text: string }[]; secondHits: number };
    assert.deepEqual([figures.lines.map(({ text }) => text), figures.secondHits], [NOTICE, 7]);
  });

  it('runs a model of the user on an image, with labels', async () => {
    const repository = await demoRepository({ folder: join(folder, 'inferkv', 'demo-models') });
    const image = join(folder, 'cat.jpg');
    const labels = join(folder, 'labels.txt');
    await sharp({ create: { width: 320, height: 200, channels: 3, background: 'orange' } })
      .jpeg()
      .toFile(image);
    writeFileSync(labels, Array.from({ length: 1000 }, (_, at) => `name ${at}`).join('\n'));
    const model = join(repository, 'resnet50', '1', 'model.onnx');
    const { status, stdout, stderr } = demo('--model', model, '--image', image, '--labels', labels, '--json');
    assert.equal(status, 0, stderr);
    const report = JSON.parse(stdout) as { seeded: boolean; classes: { label: string; index: number }[] };
    assert.equal(report.seeded, false);
    assert.equal(report.classes.length, 5);
    assert.equal(report.classes[0]?.label, `name ${report.classes[0]?.index}`);
  });

  it('runs a TorchScript model of the user', { skip: torchAbsent() }, () => {
    const model = join(folder, 'identity.pt');
    writeFileSync(model, torchModel('Identity'));
    const { status, stdout, stderr } = demo('--model', model, '--json');
    assert.equal(status, 0, stderr);
    const { engines } = JSON.parse(stdout) as { engines: Record<string, Record<string, number>> };
    assert.deepEqual(Object.keys(engines), ['torchscript']);
    assert.ok((engines['torchscript']?.['cachedMs'] ?? 0) > 0);
  });

  it('has an example of its own for TorchScript', { skip: torchAbsent() }, () => {
    const example = join(import.meta.dirname, '..', '..', 'examples', 'resnet50-torchscript.ts');
    const { status, stdout, stderr } = spawnSync(process.execPath, [example], {
      encoding: 'utf8',
      env: { ...process.env, XDG_CACHE_HOME: folder },
    });
    assert.equal(status, 0, stderr);
    assert.match(
      stdout,
      /^put in the cache +[\d.]+ ms\nrun +[\d.]+ ms {2}miss, 0\.0 ms saved\nasked again +[\d.]+ ms {2}hit/,
    );
    assert.equal(stdout.match(/ % {2}class \d+\n/g)?.length, 3);
  });

  it('says in one line what is wrong with what it was given', () => {
    const broken = join(folder, 'broken.onnx');
    writeFileSync(broken, 'no model at all');
    const cases: readonly (readonly [args: string[], status: number, code: RegExp])[] = [
      [['--model', join(folder, 'nowhere.onnx')], 3, /ERR_INFERKV_REPOSITORY_INVALID/],
      [['--model', broken], 1, /ERR_INFERKV_ARTIFACT_INVALID/],
      [['--image', join(folder, 'nowhere.jpg')], 4, /ERR_INFERKV_INPUT_INVALID/],
      [['text', '--image', broken], 4, /ERR_INFERKV_INPUT_INVALID/],
    ];
    for (const [args, expected, code] of cases) {
      const { status, stdout, stderr } = demo(...args);
      assert.equal(status, expected);
      assert.equal(stdout, '');
      assert.match(stderr.trim(), code);
      assert.equal(stderr.trim().split('\n').length, 1, stderr);
    }
  });

  it('finds its model again, and writes one anew that is not whole', async () => {
    const written: string[] = [];
    const options = { folder: join(folder, 'own'), onWrite: (path: string) => void written.push(path) };
    await demoRepository(options);
    await demoRepository(options);
    assert.equal(written.length, 1);
    const [path = ''] = written;
    const { size } = statSync(path);
    truncateSync(path, size - 1);
    await demoRepository(options);
    assert.equal(written.length, 2);
    assert.equal(statSync(path).size, size);
  });

  it('scales, crops and normalises an image as ImageNet models want it', async () => {
    const path = join(folder, 'red.png');
    await sharp({ create: { width: 40, height: 90, channels: 3, background: { r: 255, g: 0, b: 0 } } })
      .png()
      .toFile(path);
    const planar = await readImage(path, { height: 8, width: 6 });
    assert.deepEqual(planar.shape, [1, 3, 8, 6]);
    const expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0 - 0.406) / 0.225].map(Math.fround);
    const area = 8 * 6;
    assert.deepEqual(
      [0, 1, 2].map((channel) => planar.data[channel * area + 17]),
      expected,
    );
    const interleaved = await readImage(path, { height: 8, width: 6, layout: 'nhwc' });
    assert.deepEqual(interleaved.shape, [1, 8, 6, 3]);
    assert.deepEqual([...interleaved.data.slice(3, 6)], expected);
  });

  it('ranks classes by softmax', async () => {
    const path = join(folder, 'three.txt');
    writeFileSync(path, 'ant\r\nbee\ncat\n');
    const ranked = topClasses(
      { type: 'float32', shape: [1, 3], data: Float32Array.of(1000, 1002, 1001) },
      await readLabels(path),
      2,
    );
    assert.deepEqual(
      ranked.map(({ label }) => label),
      ['bee', 'cat'],
    );
    assert.ok(Math.abs((ranked[0]?.probability ?? 0) - Math.exp(2) / (1 + Math.E + Math.exp(2))) < 1e-12);
  });
});
