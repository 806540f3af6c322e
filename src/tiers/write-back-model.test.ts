import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import fc from 'fast-check';

import { FakeClock } from '../base/clock.ts';
import { createRandom } from '../base/random.ts';
import { journalOptions, recordOf, SimulatedOwners, versionOf } from '../../test/support/journal-world.ts';
import { SimulatedFiles, type CrashKind } from '../../test/support/simulated-files.ts';
import { SlowTarget, turns } from '../../test/support/slow-target.ts';
import { Journal } from './journal.ts';
import { WriteBack, type TakenWrite } from './write-back.ts';

const MAX_DIRTY_BYTES = 1000;

/** What a buffer must keep to, in the plainest form: what was given for each name, and what became of it. */
interface Model {
  /** Versions given, by name. */
  readonly given: Map<string, number>;
  readonly answers: Map<string, Map<number, TakenWrite>>;
  /** The last version that was given before the last invalidation. */
  readonly invalidated: Map<string, number>;
  /** The same, of invalidations that have settled. */
  readonly confirmed: Map<string, number>;
}

const emptyModel = (): Model => ({
  given: new Map(),
  answers: new Map(),
  invalidated: new Map(),
  confirmed: new Map(),
});

interface Real {
  readonly clock: FakeClock;
  readonly target: SlowTarget;
  readonly buffer: WriteBack;
  readonly pending: Promise<unknown>[];
}

type Command = fc.AsyncCommand<Model, Real>;

function command(label: string, run: (model: Model, real: Real) => Promise<void> | void): Command {
  return {
    check: () => true,
    run: async (model, real) => {
      await run(model, real);
      const { dirtyBytes } = real.buffer.stats();
      assert.ok(dirtyBytes <= MAX_DIRTY_BYTES, `${dirtyBytes} bytes`);
    },
    toString: () => label,
  };
}

const add = (name: string, lengthBytes: number, isAwaited: boolean): Command =>
  command(`add ${name} ${lengthBytes} ${isAwaited}`, async (model, { buffer, pending, clock }) => {
    const version = (model.given.get(name) ?? 0) + 1;
    model.given.set(name, version);
    const answer = buffer.add(name, [recordOf(name, version, lengthBytes)]).then((taken) => {
      const answers = model.answers.get(name) ?? new Map<number, TakenWrite>();
      model.answers.set(name, answers.set(version, taken));
      if (taken === 'back') assert.ok(buffer.stats().dirtyBytes <= MAX_DIRTY_BYTES);
      return taken;
    });
    pending.push(answer);
    await turns(isAwaited ? 100 : 3);
    if (isAwaited) clock.advance(1);
  });

const remove = (name: string): Command =>
  command(`remove ${name}`, (model, { buffer, target, pending }) => {
    const version = model.given.get(name) ?? 0;
    model.invalidated.set(name, version);
    pending.push(buffer.remove(name, () => target.delete(name)).then(() => model.confirmed.set(name, version)));
  });

const NAME = fc.constantFrom('k1', 'k2', 'k3', 'k4');
const COMMANDS = [
  fc.tuple(NAME, fc.integer({ min: 0, max: 400 }), fc.boolean()).map((each) => add(...each)),
  fc.tuple(NAME, fc.integer({ min: 0, max: 400 }), fc.boolean()).map((each) => add(...each)),
  fc.tuple(NAME, fc.constant(1200), fc.boolean()).map((each) => add(...each)),
  NAME.map(remove),
  NAME.map((name) => command(`evicted ${name}`, (_, { buffer }) => buffer.evicted(name))),
  NAME.map((name) => command(`flush ${name}`, (_, { buffer, pending }) => void pending.push(buffer.flush(name)))),
  fc.constant(command('flush', (_, { buffer, pending }) => void pending.push(buffer.flush()))),
  fc.integer({ min: 1, max: 6000 }).map((ms) => command(`wait ${ms}`, (_, { clock }) => clock.advance(ms))),
  fc.integer({ min: 1, max: 200 }).map((count) => command(`turns ${count}`, () => turns(count))),
  fc.boolean().map((fails) => command(`fails ${fails}`, (_, { target }) => void (target.isFailing = fails))),
];

/** Lets time go by until everybody has an answer and the buffer is empty. */
async function comeToRest({ clock, buffer, target, pending }: Real): Promise<void> {
  target.isFailing = false;
  let isOver = false;
  const all = Promise.all([...pending, buffer.flush()]).finally(() => (isOver = true));
  for (let ms = 0; !isOver && ms < 60_000; ms += 50) {
    clock.advance(50);
    await turns(50);
  }
  assert.ok(isOver, 'it does not come to an end');
  await all;
}

/** Versions of one name come to the target in their order, and the last that counts is there. */
function checkTarget(model: Model, { target, buffer }: Real): void {
  const last = new Map<string, number>();
  for (const { name, bytes, failed } of target.puts) {
    // A write that went straight on and failed is no promise: an older one that was acknowledged follows.
    if (failed) continue;
    const version = versionOf(name, bytes);
    assert.ok(version >= (last.get(name) ?? 0), `${name}@${version} after ${last.get(name)}`);
    last.set(name, version);
  }
  for (const [name, given] of model.given) {
    const invalidated = model.invalidated.get(name) ?? 0;
    const bytes = target.records.get(name);
    const found = bytes === undefined ? 0 : versionOf(name, bytes);
    assert.ok(found === 0 || found > invalidated, `${name}@${found} has come back`);
    const answers = [...(model.answers.get(name) ?? [])].filter(([, taken]) => taken !== 'dropped');
    const acknowledged = Math.max(0, ...answers.map(([version]) => version));
    if (acknowledged > invalidated) assert.equal(found, acknowledged, name);
    assert.ok(found <= given);
  }
  assert.deepEqual([buffer.stats().dirtyBytes, buffer.stats().dirtyEntries], [0, 0]);
  assert.ok(target.mostRunning <= 8 + 40);
}

describe('writes held back, whatever happens', () => {
  for (const withJournal of [false, true]) {
    it(`come in their order, the last of each name, within bounds${withJournal ? ', with a journal' : ''}`, async () => {
      const property = fc.asyncProperty(
        fc.commands(COMMANDS, { maxCommands: 60 }),
        fc.integer({ min: 1, max: 2 ** 30 }),
        async (commands, seed) => {
          const clock = new FakeClock();
          const target = new SlowTarget(createRandom(seed));
          const files = new SimulatedFiles(createRandom(seed + 1));
          const options = journalOptions(files, { owners: new SimulatedOwners(), clock });
          const journal = withJournal ? Journal.open(options) : undefined;
          const buffer = new WriteBack({
            target,
            clock,
            wallClock: () => 1e6,
            maxDirtyBytes: MAX_DIRTY_BYTES,
            journal,
          });
          const model = emptyModel();
          const real: Real = { clock, target, buffer, pending: [] };
          await fc.asyncModelRun(() => ({ model, real }), commands);
          await comeToRest(real);
          checkTarget(model, real);
          await buffer.close();
          await (await journal)?.close();
          if (withJournal) assert.deepEqual(await files.list('/journal'), []);
        },
      );
      await fc.assert(property, { numRuns: 150, seed: 81 });
    });
  }

  for (const kind of ['kill', 'dropped', 'torn'] as const satisfies readonly CrashKind[]) {
    it(`lose nothing acknowledged in a crash, and bring nothing back: ${kind}`, async () => {
      const property = fc.asyncProperty(
        fc.commands(COMMANDS, { maxCommands: 40 }),
        fc.integer({ min: 1, max: 2 ** 30 }),
        async (commands, seed) => {
          const clock = new FakeClock();
          const owners = new SimulatedOwners();
          const target = new SlowTarget(createRandom(seed));
          const files = new SimulatedFiles(createRandom(seed + 1));
          const journal = Journal.open(journalOptions(files, { owners, clock }));
          const common = { clock, wallClock: () => 1e6, maxDirtyBytes: MAX_DIRTY_BYTES };
          const buffer = new WriteBack({ ...common, target, journal });
          const model = emptyModel();
          const real: Real = { clock, target, buffer, pending: [] };
          await fc.asyncModelRun(() => ({ model, real }), commands);
          // What was known at the instant at which the machine went down.
          const image = files.image(kind, createRandom(seed + 2));
          const { answers, confirmed } = structuredClone(model);
          const stored = new Map(target.records);
          owners.killAll();
          const next = new SlowTarget(createRandom(seed));
          for (const [name, bytes] of stored) next.records.set(name, bytes);
          const heir = Journal.open(journalOptions(image, { owners, clock }));
          const second: Real = {
            clock,
            target: next,
            buffer: new WriteBack({ ...common, target: next, journal: heir }),
            pending: [],
          };
          await comeToRest(second);
          for (const [name, given] of model.given) {
            const bytes = next.records.get(name);
            const found = bytes === undefined ? 0 : versionOf(name, bytes);
            const kept = [...(answers.get(name) ?? [])].filter(([, taken]) => taken !== 'dropped');
            const acknowledged = Math.max(0, ...kept.map(([version]) => version));
            const isWanted = acknowledged > (model.invalidated.get(name) ?? 0);
            if (isWanted) assert.ok(found >= acknowledged, `${name}@${acknowledged} is lost`);
            assert.ok(found === 0 || found > (confirmed.get(name) ?? 0), `${name}@${found} has come back`);
            assert.ok(found <= given);
          }
        },
      );
      await fc.assert(property, { numRuns: 100, seed: 82 });
    });
  }
});
