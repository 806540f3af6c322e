import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { describe, it } from 'node:test';

import { TempFolder } from '../../../test/support/temp.ts';
import { addonDigestOf, readStamp } from './stamp.ts';

describe('the stamp of a built addon', () => {
  it('counts only if all of it is there', () => {
    using folder = new TempFolder();
    assert.equal(readStamp(folder.path), undefined);
    for (const broken of ['', '{', 'null', '[]', '{"digest":"d","torchVersion":"1"}', '{"digest":1}']) {
      folder.write('build/build.json', broken);
      assert.equal(readStamp(folder.path), undefined, broken);
    }
    const stamp = { digest: 'd', torchVersion: '1.13.0', addonDigest: hash('sha256', 'addon') };
    folder.write('build/build.json', JSON.stringify(stamp));
    const read = readStamp(folder.path);
    assert.deepEqual(read, { ...stamp, path: folder.at('build', 'inferkv_torchscript.node') });
    // Whether the addon is the one that the stamp is of shows in its own digest.
    assert.equal(addonDigestOf(read?.path ?? ''), undefined);
    folder.write('build/inferkv_torchscript.node', 'addon');
    assert.equal(addonDigestOf(read?.path ?? ''), stamp.addonDigest);
  });
});
