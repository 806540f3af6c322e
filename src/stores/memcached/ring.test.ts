import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Ring } from './ring.ts';

const servers = ['10.0.0.1:11211', '10.0.0.2:11211', '10.0.0.3:11211', '10.0.0.4:11211'];
const names = Array.from({ length: 20_000 }, (_, at) => `results/${at}`);

describe('consistent hashing', () => {
  const ring = new Ring(servers);

  it('gives each server its share', () => {
    const shares = servers.map((_, index) => names.filter((name) => ring.serverOf(name) === index).length);
    for (const share of shares) assert.ok(share > 3500 && share < 6500, String(shares));
  });

  it('moves only the names of a server that leaves, and only to a server that comes', () => {
    const without = new Ring(servers.slice(0, 3));
    const more = new Ring([...servers, '10.0.0.5:11211']);
    let moved = 0;
    for (const name of names) {
      const owner = ring.serverOf(name);
      if (owner < 3) assert.equal(without.serverOf(name), owner);
      if (more.serverOf(name) !== owner) {
        assert.equal(more.serverOf(name), 4);
        moved++;
      }
    }
    assert.ok(moved > 2500 && moved < 5500, `${moved} of 20,000 moved to the fifth of five`);
  });

  it('does not care for the order of the servers', () => {
    const turned = servers.toReversed();
    const other = new Ring(turned);
    for (const name of names) assert.equal(turned[other.serverOf(name)], servers[ring.serverOf(name)]);
  });
});
