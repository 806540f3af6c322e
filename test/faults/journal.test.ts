import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { systemClock, systemWallClock } from '../../src/base/clock.ts';
import { createRandom } from '../../src/base/random.ts';
import { Journal } from '../../src/tiers/journal.ts';
import { versionOf } from '../support/journal-world.ts';
import { TempFolder } from '../support/temp.ts';

const writer = fileURLToPath(new URL('../fixtures/journal-writer.ts', import.meta.url));
const JOURNALS = 8;
const KILLS = 26;

interface Known {
  issued: number;
  acknowledged: number;
  done: number;
}

/** What the writers have said so far; every one of them begins where the last was killed. */
class Ledger {
  readonly known = new Map<string, Known>();
  last = 0;
  found = 0;

  /** What one process said, whole lines of it. */
  hear(lines: readonly string[]): void {
    const seen = new Map<string, number>();
    for (const line of lines) {
      const [kind, name = '', what = ''] = line.split(' ');
      if (kind === 'F') {
        assert.ok(!seen.has(name), `${name} twice`);
        seen.set(name, versionOf(name, Uint8Array.from(Buffer.from(what, 'base64'))));
      } else if (kind === 'R') this.restarted(seen);
      else this.#note(kind ?? '', name, Number(what));
    }
  }

  /** A process has found that, and nothing else. */
  restarted(seen: ReadonlyMap<string, number>): void {
    this.found += seen.size;
    for (const name of seen.keys()) assert.ok(this.known.has(name), `${name} was never written`);
    for (const [name, known] of this.known) {
      const version = seen.get(name);
      if (version === undefined) assert.ok(known.acknowledged <= known.done, `${name}@${known.acknowledged} is lost`);
      else {
        assert.ok(version <= known.issued, `${name}@${version} was never written`);
        assert.ok(version >= known.acknowledged || known.acknowledged <= known.done, `${name}@${version} is old`);
        // This process's own notes could not be lost: it was killed, not the machine.
        known.acknowledged = Math.max(known.acknowledged, version);
      }
    }
  }

  #note(kind: string, name: string, version: number): void {
    const known = this.known.get(name) ?? { issued: 0, acknowledged: 0, done: 0 };
    this.known.set(name, known);
    this.last = Math.max(this.last, version);
    if (kind === 'I') known.issued = Math.max(known.issued, version);
    if (kind === 'A') known.acknowledged = Math.max(known.acknowledged, version);
    if (kind === 'D') known.done = Math.max(known.done, version);
  }
}

/** Lets a writer work until it has said so many lines, and kills it in the midst of what it does then. */
async function killOne(folder: string, seed: number, ledgers: readonly Ledger[]): Promise<void> {
  const args = [writer, folder, String(seed), ...ledgers.map(({ last }) => String(last))];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  const random = createRandom(seed);
  // Now and then while it takes over what the last one left.
  const lines = random.below(4) === 0 ? random.below(80) : random.below(700);
  let said = '';
  let count = 0;
  for await (const chunk of child.stdout) {
    const text = String(chunk);
    said += text;
    count += text.split('\n').length - 1;
    if (count > lines) child.kill('SIGKILL');
  }
  const [, signal] = (await ended) as [number | null, string | null];
  assert.equal(signal, 'SIGKILL', 'the writer ended by itself');
  // The last line may be cut off; what it was about is not acknowledged, as far as anybody has heard.
  const whole = said.split('\n').slice(0, -1);
  for (const [at, ledger] of ledgers.entries()) {
    const mine = whole.filter((line) => line.startsWith(`${at} `));
    ledger.hear(mine.map((line) => line.slice(2)));
  }
}

describe('a process that is killed while it writes to its journals', { timeout: 120_000 }, () => {
  it(`loses nothing acknowledged, and leaves nothing wrong: ${KILLS} times ${JOURNALS} journals`, async () => {
    using temp = new TempFolder();
    const ledgers = Array.from({ length: JOURNALS }, () => new Ledger());
    for (let seed = 1; seed <= KILLS; seed++) await killOne(temp.path, seed, ledgers);
    for (const [at, ledger] of ledgers.entries()) {
      const folder = temp.at(String(at));
      const durability = at % 2 === 0 ? 'every' : 'interval';
      const journal = await Journal.open({ folder, durability, clock: systemClock, wallClock: systemWallClock });
      const seen = new Map<string, number>();
      for (const write of journal.claim('tier')) {
        const bytes = (await journal.load('tier', write)) as Uint8Array;
        seen.set(write.name, versionOf(write.name, bytes));
        journal.done('tier', write.name, write.order);
      }
      ledger.restarted(seen);
      assert.ok(ledger.found > KILLS, `only ${ledger.found} were found again`);
      assert.ok(ledger.last > 3 * KILLS, `only ${ledger.last} were written`);
      await journal.close();
      assert.deepEqual(readdirSync(folder), [], 'the journals of those that are gone are gone, too');
    }
  });
});
