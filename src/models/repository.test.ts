import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { TempFolder } from '../../test/support/temp.ts';
import { openRepository, type Repository } from './repository.ts';
import { rejects } from '../../test/support/rejects.ts';

const formats = [
  { name: 'onnx', extensions: ['.onnx'] },
  { name: 'torchscript', extensions: ['.pt'] },
];

describe('a model repository', () => {
  let folder: TempFolder;
  let repository: Repository;
  before(() => {
    folder = new TempFolder();
    for (const version of ['2', '10', '1']) folder.write(`resnet/${version}/model.onnx`, 'x');
    folder.write('resnet/draft/model.onnx', 'not a version');
    folder.write('resnet/03/model.onnx', 'not a version either');
    folder.write('resnet/11/readme.txt', 'no model');
    folder.write('resnet/inferkv.json', JSON.stringify({ session: { threads: 1 }, results: { ttlMs: 5 } }));
    folder.write('script/7/model.pt', 'x');
    folder.write('alone.onnx', 'x');
    folder.write('notes.txt', 'x');
    folder.write('.hidden/1/model.onnx', 'x');
    folder.write('empty/1/other.onnx', 'x');
    folder.write('bad-json/1/model.onnx', 'x');
    folder.write('bad-json/inferkv.json', '{ "session": ');
    folder.write('bad-settings/1/model.onnx', 'x');
    folder.write('bad-settings/inferkv.json', '{ "session": { "threads": 0 }, "colour": "red" }');
    repository = openRepository({ root: folder.path, formats });
  });
  after(() => folder[Symbol.dispose]());

  it('lists models with their versions in order, and nothing else', async () => {
    assert.deepEqual(await repository.list(), [
      { name: 'alone', versions: ['1'] },
      { name: 'bad-json', versions: ['1'] },
      { name: 'bad-settings', versions: ['1'] },
      { name: 'resnet', versions: ['1', '2', '10'] },
      { name: 'script', versions: ['7'] },
    ]);
  });

  it('finds the highest version, or the one asked for, with its settings', async () => {
    assert.deepEqual(await repository.resolve('resnet'), {
      name: 'resnet',
      version: '10',
      path: folder.at('resnet', '10', 'model.onnx'),
      settings: { session: { threads: 1 }, results: { ttlMs: 5 } },
    });
    assert.equal((await repository.resolve('resnet', '2')).path, folder.at('resnet', '2', 'model.onnx'));
    assert.equal((await repository.resolve('script')).path, folder.at('script', '7', 'model.pt'));
    assert.deepEqual((await repository.resolve('alone')).settings, {});
  });

  it('sees what appears and goes', async () => {
    folder.write('late.onnx', 'x');
    assert.equal((await repository.resolve('late')).version, '1');
    folder.write('late/2/model.onnx', 'x');
    assert.equal((await repository.resolve('late')).version, '2');
    assert.equal((await repository.resolve('late', '1')).path, folder.at('late.onnx'));
  });

  it('says what there is instead of what there is not', async () => {
    await rejects(
      repository.resolve('resnets'),
      'ERR_INFERKV_MODEL_NOT_FOUND',
      /alone, bad-json.*resnets.1.model\.onnx/,
    );
    await rejects(repository.resolve('resnet', '3'), 'ERR_INFERKV_MODEL_NOT_FOUND', /"3".*1, 2, 10/);
    await rejects(repository.resolve('resnet', '../1'), 'ERR_INFERKV_MODEL_NOT_FOUND', /no version/);
    await rejects(repository.resolve('empty'), 'ERR_INFERKV_MODEL_NOT_FOUND', /no model/);
  });

  it('takes no path for a name', async () => {
    const names = [
      '../resnet',
      'a/b',
      'a\\b',
      '',
      '.',
      '..',
      '.hidden',
      'a\0b',
      '/etc/passwd',
      'C:x',
      'x'.repeat(129),
      'na me',
      'naïve',
      '%2e%2e',
    ];
    for (const name of names)
      await rejects(repository.resolve(name), 'ERR_INFERKV_MODEL_NAME_INVALID', /no model name/);
    for (const name of [undefined, null, 5, {}]) {
      await rejects(repository.resolve(name as string), 'ERR_INFERKV_MODEL_NAME_INVALID', /no model name/);
    }
  });

  it('names the file and the setting that are wrong', async () => {
    await rejects(repository.resolve('bad-json'), 'ERR_INFERKV_CONFIG_INVALID', /bad-json.inferkv\.json is no JSON/);
    await rejects(repository.resolve('bad-settings'), 'ERR_INFERKV_CONFIG_INVALID', /session\.threads.*colour/);
  });

  it('may be one file', async () => {
    const one = openRepository({ root: folder.at('alone.onnx'), formats });
    assert.deepEqual(await one.list(), [{ name: 'alone', versions: ['1'] }]);
    assert.equal((await one.resolve('alone')).path, folder.at('alone.onnx'));
    await rejects(one.resolve('resnet'), 'ERR_INFERKV_MODEL_NOT_FOUND', /There are: alone/);
  });

  it('may be empty, or missing', async () => {
    using empty = new TempFolder();
    const nothing = openRepository({ root: empty.path, formats });
    assert.deepEqual(await nothing.list(), []);
    await rejects(nothing.resolve('resnet'), 'ERR_INFERKV_MODEL_NOT_FOUND', /holds no model/);
    const missing = openRepository({ root: empty.at('nowhere'), formats });
    await rejects(missing.list(), 'ERR_INFERKV_REPOSITORY_INVALID', /nowhere/);
    await rejects(missing.resolve('resnet'), 'ERR_INFERKV_REPOSITORY_INVALID', /nowhere/);
  });
});
