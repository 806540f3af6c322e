import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { isInferkvError } from '../../base/errors.ts';
import { createRedisStore } from './index.ts';
import { settingsOf, type RedisStoreOptions } from './options.ts';

describe('options of the Redis store', () => {
  it('come from a url, and what is given beside it goes first', () => {
    const { host, port, username, password, db, tls } = settingsOf({ url: 'rediss://me:a%40b@cache.example:7000/3' });
    assert.deepEqual(
      { host, port, username, password, db, tls },
      {
        host: 'cache.example',
        port: 7000,
        username: 'me',
        password: 'a@b',
        db: 3,
        tls: true,
      },
    );
    assert.equal(settingsOf({ url: 'redis://[::1]/', db: 2 }).host, '::1');
    assert.equal(settingsOf({ url: 'redis://h/1', db: 2 }).db, 2);
  });

  it('say where the server is without a password', () => {
    assert.equal(settingsOf({ url: 'redis://me:secret@h:1/' }).where, 'h:1');
    assert.match(
      settingsOf({
        cluster: [
          { host: 'a', port: 1 },
          { host: 'b', port: 2 },
        ],
      }).where,
      /Cluster of a:1, b:2/,
    );
    assert.match(settingsOf({ sentinels: [{ host: 'a', port: 1 }] }).where, /master mymaster of the Sentinels a:1/);
  });

  it('are refused where they cannot be', () => {
    const one = [{ host: 'a', port: 1 }];
    const wrong: readonly (readonly [RedisStoreOptions, RegExp])[] = [
      [{ cluster: one, sentinels: one }, /give one/],
      [{ cluster: [] }, /no node/],
      [{ sentinels: [] }, /no address/],
      [{ cluster: one, db: 1 }, /only 0/],
      [{ url: 'http://a' }, /rediss:/],
      [{ url: 'redis://a/first' }, /no number/],
      [{ maxRecordBytes: 2 ** 30 }, /maxRecordBytes/],
      [{ silenceMs: 0 }, /silenceMs/],
    ];
    for (const [options, says] of wrong) {
      assert.throws(
        () => createRedisStore(options),
        (error) => isInferkvError(error, 'ERR_INFERKV_CONFIG_INVALID') && says.test(error.message),
      );
    }
  });
});
