import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { describe, it } from 'node:test';

import { TempFolder } from '../../test/support/temp.ts';
import { FakeClock } from '../base/clock.ts';
import { ApiKeys, issueKey, readKeys, writeKeys, type StoredKey } from './api-keys.ts';

function unexpected(fault: unknown): never {
  throw fault;
}

const NOW = new Date('2026-01-01T00:00:00Z');

describe('API keys', () => {
  it('are told by their text alone, of which only a digest is stored', () => {
    using folder = new TempFolder();
    const path = folder.at('keys.json');
    const [acme, other] = [
      issueKey({ tenant: 'acme', role: 'infer' }, NOW),
      issueKey({ tenant: 'other', role: 'admin' }, NOW),
    ];
    writeKeys(path, [acme.stored, other.stored]);
    const text = JSON.stringify(readKeys(path));
    assert.ok(!text.includes(acme.text.slice(-20)));
    assert.equal(statSync(path).mode & 0o077, 0);
    const keys = new ApiKeys(path, new FakeClock(), unexpected);
    assert.deepEqual(keys.verify(`Bearer ${acme.text}`), { tenant: 'acme', role: 'infer' });
    assert.deepEqual(keys.verify(`bearer ${other.text}`), { tenant: 'other', role: 'admin' });
  });

  it('are refused in any other form', () => {
    using folder = new TempFolder();
    const path = folder.at('keys.json');
    const { text, stored } = issueKey({ tenant: 'acme', role: 'infer' }, NOW);
    const expired: StoredKey = {
      ...issueKey({ tenant: 'acme', role: 'infer' }, NOW).stored,
      expiresAt: '2026-01-02T00:00:00Z',
    };
    const gone = issueKey({ tenant: 'acme', role: 'infer' }, NOW);
    writeKeys(path, [stored, expired, { ...gone.stored, expiresAt: '2026-01-02T00:00:00Z' }]);
    const keys = new ApiKeys(path, new FakeClock(), unexpected);
    const flipped = `${text.slice(0, -1)}${text.endsWith('A') ? 'B' : 'A'}`;
    const wrong = [undefined, '', 'Bearer', 'Bearer ', text, `Basic ${text}`, `Bearer ${flipped}`, `Bearer ${text}x`];
    for (const header of [...wrong, `Bearer ${stored.sha256}`, `Bearer ${stored.id}`, `Bearer ${gone.text}`]) {
      assert.throws(() => keys.verify(header), { code: 'ERR_INFERKV_UNAUTHORIZED' }, String(header));
    }
  });

  it('are good up to the moment at which they expire', () => {
    using folder = new TempFolder();
    const path = folder.at('keys.json');
    const { text, stored } = issueKey({ tenant: 'acme', role: 'infer' }, NOW);
    writeKeys(path, [{ ...stored, expiresAt: '2026-01-02T00:00:00Z' }]);
    let date = Date.parse('2026-01-01T23:59:59.999Z');
    const keys = new ApiKeys(path, new FakeClock(), unexpected, () => date);
    assert.equal(keys.verify(`Bearer ${text}`).tenant, 'acme');
    date++;
    assert.throws(() => keys.verify(`Bearer ${text}`), { code: 'ERR_INFERKV_UNAUTHORIZED' });
  });

  it('count from the next second on after the file changed; a file that cannot be read changes nothing', () => {
    using folder = new TempFolder();
    const path = folder.at('keys.json');
    const old = issueKey({ tenant: 'acme', role: 'infer' }, NOW);
    writeKeys(path, [old.stored]);
    const clock = new FakeClock();
    const faults: unknown[] = [];
    const keys = new ApiKeys(path, clock, (fault) => faults.push(fault));
    const rotated = issueKey(old.stored, NOW);
    writeKeys(path, [rotated.stored]);
    assert.equal(keys.verify(`Bearer ${old.text}`).tenant, 'acme');
    clock.advance(1000);
    assert.throws(() => keys.verify(`Bearer ${old.text}`), { code: 'ERR_INFERKV_UNAUTHORIZED' });
    assert.deepEqual(keys.verify(`Bearer ${rotated.text}`), { tenant: 'acme', role: 'infer' });
    folder.write('keys.json', '{ broken');
    clock.advance(1000);
    assert.equal(keys.verify(`Bearer ${rotated.text}`).tenant, 'acme');
    assert.equal(faults.length, 1);
  });

  it('say what is wrong with their file', () => {
    using folder = new TempFolder();
    const { stored } = issueKey({ tenant: 'acme', role: 'infer' }, NOW);
    const read = (content: unknown): (() => unknown) => {
      const path = folder.write('keys.json', JSON.stringify(content));
      return () => new ApiKeys(path, new FakeClock(), unexpected);
    };
    assert.throws(read({ keys: [{ ...stored, role: 'root' }] }), { code: 'ERR_INFERKV_CONFIG_INVALID' });
    assert.throws(read([]), { code: 'ERR_INFERKV_CONFIG_INVALID' });
    assert.throws(() => new ApiKeys(folder.at('nowhere'), new FakeClock(), unexpected), /no key file/);
  });
});
