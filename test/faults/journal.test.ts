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
const KILLS = 100;

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
async function killOne(folder: string, durability: string, seed: number, ledger: Ledger): Promise<void> {
  const args = [writer, folder, durability, String(seed), String(ledger.last)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  const random = createRandom(seed);
  const lines = random.below(10) === 0 ? random.below(3) : random.below(400);
  let said = '';
  let isKilled = false;
  for await (const chunk of child.stdout) {
    said += String(chunk);
    if (!isKilled && said.split('\n').length > lines) {
      isKilled = true;
      child.kill('SIGKILL');
    }
  }
  const [, signal] = (await ended) as [number | null, string | null];
  assert.equal(signal, 'SIGKILL', 'the writer ended by itself');
  // The last line may be cut off; what it was about is not acknowledged, as far as anybody has heard.
  ledger.hear(said.split('\n').slice(0, -1));
}

describe('a process that is killed while it writes to its journal', { timeout: 120_000 }, () => {
  for (const durability of ['every', 'interval'] as const) {
    it(`loses nothing acknowledged, and leaves nothing wrong, ${KILLS} times: ${durability}`, async () => {
      using temp = new TempFolder();
      const folder = temp.at('journal');
      const ledgers = [new Ledger()];
      for (let seed = 1; seed <= KILLS; seed++) await killOne(folder, durability, seed, ledgers[0] as Ledger);
      const [ledger] = ledgers as [Ledger];
      const journal = await Journal.open({ folder, durability, clock: systemClock, wallClock: systemWallClock });
      const seen = new Map<string, number>();
      for (const write of journal.claim('tier')) {
        const bytes = (await journal.load('tier', write)) as Uint8Array;
        const version = versionOf(write.name, bytes);
        seen.set(write.name, version);
        journal.done('tier', write.name, write.order);
      }
      ledger.restarted(seen);
      assert.ok(ledger.found > 5 * KILLS, `only ${ledger.found} were found again`);
      assert.ok(ledger.last > 50 * KILLS, `only ${ledger.last} were written`);
      await journal.close();
      assert.deepEqual(readdirSync(folder), [], 'the journals of those that are gone are gone, too');
    });
  }
});
