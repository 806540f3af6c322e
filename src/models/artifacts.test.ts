import assert from 'node:assert/strict';
import { createHash, hash } from 'node:crypto';
import { appendFileSync, mkdirSync, renameSync, rmSync, utimesSync } from 'node:fs';
import { after, before, beforeEach, describe, it } from 'node:test';

import { TempFolder } from '../../test/support/temp.ts';
import { createArtifactReader } from './artifacts.ts';
import { rejects } from '../../test/support/rejects.ts';

describe('artifacts', () => {
  let folder: TempFolder;
  before(() => {
    folder = new TempFolder();
  });
  after(() => folder[Symbol.dispose]());

  let companions: readonly string[] = [];
  let asked = 0;
  const reader = createArtifactReader({
    companions: async () => {
      asked++;
      return companions;
    },
  });
  beforeEach(() => {
    companions = [];
  });

  it('are named by the SHA-256 of their bytes, wherever they lie and however large they are', async () => {
    const content = Buffer.alloc(3_000_001, 'weights');
    const paths = [folder.write('a.onnx', content), folder.write('elsewhere/b.onnx', content)];
    const digest = hash('sha256', content);
    for (const path of paths) {
      const { artifact } = await reader.read(path);
      assert.deepEqual(artifact, {
        digest,
        path,
        sizeBytes: content.length,
        files: [{ name: '', path, sizeBytes: content.length, digest }],
      });
    }
    assert.equal(reader.digestOfBytes(content), digest);
  });

  it('cover the files that they refer to, and their names', async () => {
    const path = folder.write('parts/model.onnx', 'model');
    folder.write('parts/sub/w.bin', 'weights');
    companions = ['sub/w.bin', 'sub/w.bin'];
    const { artifact } = await reader.read(path);
    const expected = createHash('sha256')
      .update(`inferkv/artifact/1\n0::${hash('sha256', 'model')}\n9:sub/w.bin:${hash('sha256', 'weights')}`)
      .digest('hex');
    assert.equal(artifact.digest, expected);
    assert.deepEqual(
      artifact.files.map(({ name }) => name),
      ['', 'sub/w.bin'],
    );
    assert.equal(artifact.sizeBytes, 12);
    folder.write('parts/sub/w.bin', 'other w');
    assert.notEqual((await reader.read(path)).artifact.digest, expected);
  });

  it('keep to their folder', async () => {
    const path = folder.write('inside/model.onnx', 'model');
    folder.write('secret.bin', 'secret');
    for (const name of ['../secret.bin', '/etc/passwd', '', 'sub/../../secret.bin', 'a\0b', '..']) {
      companions = [name];
      await rejects(reader.read(path), 'ERR_INFERKV_ARTIFACT_INVALID', /not inside its folder/);
    }
    companions = ['gone.bin'];
    await rejects(reader.read(path), 'ERR_INFERKV_ARTIFACT_MISSING', /gone\.bin/);
  });

  it('are read again only when something about the file changed', async () => {
    const path = folder.write('c.onnx', 'first');
    const first = await reader.read(path);
    const askedBefore = asked;
    assert.equal(await reader.read(path), first);
    assert.equal(asked, askedBefore);
    // Another time of the last change makes it read again, the same bytes give the same name.
    utimesSync(path, 1, 1);
    const second = await reader.read(path);
    assert.notEqual(second.signature, first.signature);
    assert.equal(second.artifact.digest, first.artifact.digest);
    assert.equal(await reader.signatureOf(path), second.signature);
  });

  it('notice a file of the same size and time that took the place of another', async () => {
    const path = folder.write('d.onnx', 'aaaa');
    utimesSync(path, 1000, 1000);
    const first = await reader.read(path);
    const other = folder.write('e.onnx', 'bbbb');
    utimesSync(other, 1000, 1000);
    renameSync(other, path);
    assert.notEqual((await reader.read(path)).artifact.digest, first.artifact.digest);
  });

  it('are given up when they never stop changing', async () => {
    const path = folder.write('f.onnx', Buffer.alloc(5_000_000));
    let reading = true;
    // Grows with every turn of the loop, of which reading some megabytes takes many.
    const grow = (): void => {
      appendFileSync(path, 'x');
      if (reading) setImmediate(grow);
    };
    grow();
    await rejects(reader.read(path), 'ERR_INFERKV_ARTIFACT_CHANGED', /keeps changing.*rename it/);
    reading = false;
  });

  it('say what is wrong with a file that is empty, a folder, or gone', async () => {
    await rejects(reader.read(folder.write('empty.onnx', '')), 'ERR_INFERKV_ARTIFACT_INVALID', /is empty/);
    mkdirSync(folder.at('folder.onnx'));
    await rejects(reader.read(folder.at('folder.onnx')), 'ERR_INFERKV_ARTIFACT_INVALID', /no regular file/);
    const path = folder.write('g.onnx', 'x');
    await reader.read(path);
    rmSync(path);
    await rejects(reader.read(path), 'ERR_INFERKV_ARTIFACT_MISSING', /g\.onnx/);
    await rejects(reader.signatureOf(path), 'ERR_INFERKV_ARTIFACT_MISSING', /g\.onnx/);
  });
});
