import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { rejects } from '../../test/support/rejects.ts';
import { TempFolder } from '../../test/support/temp.ts';
import { loadConfig, type LoadedConfig } from './load.ts';
import { checkConfig } from './schema.ts';
import { SETTINGS, variableOf } from './settings.ts';

function load(
  folder: TempFolder,
  environment: Readonly<Record<string, string>> = {},
  flags: Readonly<Record<string, string>> = {},
  file?: string,
): Promise<LoadedConfig> {
  return loadConfig({ folder: folder.path, file, environment, flags: new Map(Object.entries(flags)) });
}

function settingOf({ settings }: LoadedConfig, path: string): readonly [value: unknown, from: string] {
  const found = settings.find((each) => each.path === path);
  assert.ok(found !== undefined, path);
  return [found.value, found.from];
}

describe('the configuration', () => {
  it('has a value for everything without anybody saying anything', async () => {
    using folder = new TempFolder();
    const loaded = await load(folder, { PATH: '/bin' });
    assert.deepEqual([loaded.config, loaded.file], [{}, undefined]);
    assert.deepEqual(settingOf(loaded, 'server.port'), [8000, 'default']);
    assert.ok(loaded.settings.every(({ from }) => from === 'default'));
  });

  it('takes flags before the environment, that before the file, and that before defaults', async () => {
    using folder = new TempFolder();
    const file = folder.write(
      'inferkv.config.json',
      JSON.stringify({
        repository: 'here',
        partitions: { results: { budgetBytes: '1GB', policy: 'lfu', ttlMs: 5 } },
        models: { small: { pinned: true } },
      }),
    );
    const loaded = await load(
      folder,
      { INFERKV_PARTITIONS_RESULTS_BUDGET_BYTES: '2GB', INFERKV_PARTITIONS_RESULTS_POLICY: 'gdsf', INFERKV_DEBUG: '1' },
      { 'partitions.results.budgetBytes': '3000', 'server.port': '0' },
    );
    assert.deepEqual(settingOf(loaded, 'partitions.results.budgetBytes'), [3000, 'flag']);
    assert.deepEqual(settingOf(loaded, 'partitions.results.policy'), ['gdsf', 'INFERKV_PARTITIONS_RESULTS_POLICY']);
    assert.deepEqual(settingOf(loaded, 'partitions.results.ttlMs'), [5, file]);
    assert.deepEqual(settingOf(loaded, 'debug'), [true, 'INFERKV_DEBUG']);
    assert.deepEqual(settingOf(loaded, 'recheckMs'), [1000, 'default']);
    assert.deepEqual(settingOf(loaded, 'models.small'), [{ pinned: true }, file]);
    // Meant from where the file lies.
    assert.deepEqual(settingOf(loaded, 'repository'), [folder.at('here'), file]);
    assert.deepEqual(loaded.config, {
      repository: folder.at('here'),
      partitions: { results: { budgetBytes: 3000, policy: 'gdsf', ttlMs: 5 } },
      models: { small: { pinned: true } },
      debug: true,
      server: { port: 0 },
    });
  });

  it('may be TypeScript, found by itself or named', async () => {
    using folder = new TempFolder();
    const content = 'const port: number = 9000;\nexport default { server: { port } };\n';
    const found = folder.write('inferkv.config.ts', content);
    assert.deepEqual(settingOf(await load(folder), 'server.port'), [9000, found]);
    const named = folder.write('other.mts', content.replace('9000', '9001'));
    assert.deepEqual(settingOf(await load(folder, {}, {}, 'other.mts'), 'server.port'), [9001, named]);
  });

  it('says where something is wrong', async () => {
    using folder = new TempFolder();
    const cases: readonly (readonly [Record<string, string>, Record<string, string>, RegExp])[] = [
      [{ INFERKV_SERVER_PROT: '1' }, {}, /INFERKV_SERVER_PROT .* did you mean INFERKV_SERVER_PORT\?/],
      [{ INFERKV_SERVER_PORT: 'many' }, {}, /INFERKV_SERVER_PORT: "many" is no number/],
      [{ INFERKV_DEBUG: 'perhaps' }, {}, /INFERKV_DEBUG: "perhaps" is neither true nor false/],
      [{}, { 'server.prt': '1' }, /server\.prt .* did you mean server\.port\?/],
      [{}, { 'server.port': '70000' }, /server\.port/],
      [{}, { 'server.logLevel': 'loud' }, /server\.logLevel/],
    ];
    for (const [environment, flags, says] of cases)
      await rejects(load(folder, environment, flags), 'ERR_INFERKV_CONFIG_INVALID', says);
    const files: readonly (readonly [name: string, content: string, says: RegExp])[] = [
      ['a.json', '{', /a\.json cannot be read/],
      ['b.json', '[]', /b\.json holds no settings/],
      ['c.json', '{"server": {"port": "x"}}', /c\.json is not valid\. server\.port: /],
      ['d.json', '{"partitions": {"result": {}}}', /d\.json is not valid\. partitions: .*result/],
      ['e.mjs', 'export const nothing = 1;', /e\.mjs holds no settings/],
      ['f.mjs', 'throw new Error("by itself");', /f\.mjs cannot be read: by itself/],
    ];
    for (const [name, content, says] of files) {
      folder.write(name, content);
      await rejects(load(folder, {}, {}, name), 'ERR_INFERKV_CONFIG_INVALID', says);
    }
    await rejects(load(folder, {}, {}, 'nowhere.json'), 'ERR_INFERKV_CONFIG_INVALID', /nowhere\.json/);
    folder.write('inferkv.config.json', '{}');
    folder.write('inferkv.config.js', 'export default {};');
    await rejects(load(folder), 'ERR_INFERKV_CONFIG_INVALID', /several configuration files/);
  });

  it('knows every setting of its table by a variable of its own', () => {
    assert.equal(new Set(SETTINGS.map(variableOf)).size, SETTINGS.length);
    for (const { path, kind, fallback } of SETTINGS) {
      const value = fallback ?? { text: 'text', number: 1, size: '1MB', switch: true }[kind];
      const config = path.split('.').reduceRight<unknown>((inner, name) => ({ [name]: inner }), value);
      checkConfig(config, path);
    }
  });
});
