/** `inferkv bench stores`: what each store that can be reached does on this machine, side by side. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Argument, Command } from 'commander';

import { formatBytes } from '../base/bytes.ts';
import { messageOf } from '../base/errors.ts';
import { storeOf } from '../compose-tiers.ts';
import type { TierSettings } from '../config/tiers.ts';
import { measureStore, STORE_FEATURES, type Measurement, type StoreFeatures } from '../stores/comparison.ts';
import type { Store } from '../stores/store.ts';
import { configOf, print, printJson, table, withConfigFlags, withProgress, type CommonFlags } from './common.ts';

interface BenchFlags extends CommonFlags {
  readonly redis: string;
  readonly memcached: string;
  readonly dynamodb?: string;
  readonly table: string;
  readonly folder?: string;
  readonly ms: string;
}

const SIZES = [1024, 64 * 1024, 1024 * 1024];
const DEPTHS = [1, 16];
const REACH_MS = 2000;
const FEATURES = ['persistence', 'sharing', 'limits', 'transactions', 'choose'] as const;

export function benchCommand(): Command {
  return withConfigFlags(new Command('bench'))
    .description('measures the stores that can be reached from here, side by side')
    .addArgument(new Argument('<what>', 'what to measure').choices(['stores']))
    .option('--redis <url>', 'a Redis to measure', 'redis://127.0.0.1:6379')
    .option('--memcached <host:port>', 'a Memcached to measure', '127.0.0.1:11211')
    .option('--dynamodb <endpoint>', 'what speaks the protocol of DynamoDB; not measured if left out')
    .option('--table <name>', 'the table there', 'inferkv')
    .option('--folder <path>', 'where to measure the disk; a folder for temporary files if left out')
    .option('--ms <milliseconds>', 'how long each kind of call is measured', '500')
    .action(async (_what: string, flags: BenchFlags) => {
      const { config } = await configOf(flags);
      const temporary = flags.folder === undefined ? await mkdtemp(join(tmpdir(), 'inferkv-bench-')) : undefined;
      try {
        await compare(settingsOf(flags, flags.folder ?? temporary ?? '.', config.tiers ?? {}), flags);
      } finally {
        if (temporary !== undefined) await rm(temporary, { recursive: true, force: true });
      }
    });
}

/** What is measured: the tiers of the configuration, and what the flags say besides. */
function settingsOf(
  flags: BenchFlags,
  folder: string,
  tiers: Readonly<Record<string, TierSettings>>,
): Readonly<Record<string, TierSettings>> {
  const given = Object.entries(tiers).filter(([, { store }]) => store !== 'disk');
  return {
    memory: { store: 'shared-memory', budgetBytes: '256MB' },
    disk: { store: 'disk', folder, budgetBytes: '1GB' },
    redis: { store: 'redis', url: flags.redis },
    memcached: { store: 'memcached', servers: [flags.memcached] },
    ...(flags.dynamodb !== undefined && {
      dynamodb: { store: 'dynamodb', table: flags.table, endpoint: flags.dynamodb } as const,
    }),
    ...Object.fromEntries(given),
  };
}

async function compare(settings: Readonly<Record<string, TierSettings>>, flags: BenchFlags): Promise<void> {
  const durationMs = Number(flags.ms);
  const measured: [string, readonly Measurement[]][] = [];
  const unreachable: [string, string][] = [];
  for (const [name, each] of Object.entries(settings)) {
    let store: Store | undefined;
    try {
      store = storeOf(name, each);
      await store.get('measure', { signal: AbortSignal.timeout(REACH_MS) });
      const measuring = store;
      const done = await withProgress(`measuring ${name}`, () =>
        measureStore(measuring, { sizes: SIZES, depths: DEPTHS, durationMs }),
      );
      measured.push([name, done]);
    } catch (error) {
      unreachable.push([name, messageOf(error)]);
    } finally {
      await store?.close();
    }
  }
  if (flags.json === true) {
    printJson({
      measured: Object.fromEntries(measured),
      unreachable: Object.fromEntries(unreachable),
      features: STORE_FEATURES,
    });
    return;
  }
  const head = ['store', 'op', 'size', 'at a time', 'ops/s', 'MB/s', 'p50 ms', 'p99 ms'];
  print(table([head, ...measured.flatMap(([name, done]) => done.map((each) => rowOf(name, each)))]));
  for (const [name, why] of unreachable) print(`\n${name} was not measured: ${why}`);
  print('');
  print(table([['store', ...FEATURES], ...Object.entries(STORE_FEATURES).map(featuresOf)]));
}

function featuresOf([name, features]: readonly [string, StoreFeatures]): readonly string[] {
  return [name].concat(FEATURES.map((each) => features[each]));
}

function rowOf(
  name: string,
  { op, sizeBytes, depth, opsPerSecond, bytesPerSecond, p50Ms, p99Ms }: Measurement,
): readonly string[] {
  return [
    name,
    op,
    formatBytes(sizeBytes),
    String(depth),
    opsPerSecond.toFixed(0),
    (bytesPerSecond / 1e6).toFixed(1),
    p50Ms.toFixed(3),
    p99Ms.toFixed(3),
  ];
}
