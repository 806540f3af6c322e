/** `inferkv stats`, `explain`, `clear` and `what-if`: look into a running server's cache, and clear it. */
import { Command } from 'commander';

import { formatBytes } from '../base/bytes.ts';
import { InferkvError, messageOf } from '../base/errors.ts';
import { print, printJson, table } from './common.ts';

interface ServerFlags {
  readonly server: string;
  readonly key?: string;
  readonly json?: true;
}

type Answer = Readonly<Record<string, unknown>>;

/** The commands that ask a server. */
export function cacheCommands(): readonly Command[] {
  return [statsCommand(), explainCommand(), clearCommand(), whatIfCommand()];
}

function statsCommand(): Command {
  return asking(new Command('stats'))
    .description('shows what lies in the partitions of a running server, and how its tiers stand')
    .action(async (flags: ServerFlags) => {
      const { partitions, tiers } = (await ask(flags, 'GET', '/v2/cache')) as {
        readonly partitions: Readonly<Record<string, Readonly<Record<string, number>>>>;
        readonly tiers: readonly Answer[];
      };
      if (flags.json === true) {
        printJson({ partitions, tiers });
        return;
      }
      const head = ['partition', 'entries', 'used', 'budget', 'hits', 'misses', 'saved'];
      print(table([head, ...Object.entries(partitions).map(partitionRow)]));
      if (tiers.length === 0) return;
      const columns = ['name', 'place', 'breaker', 'hits', 'misses', 'failures', 'written'];
      print(`\n${table([columns, ...tiers.map((tier) => columns.map((column) => String(tier[column])))])}`);
    });
}

function partitionRow([name, stats]: readonly [string, Readonly<Record<string, number>>]): readonly string[] {
  const { entries = 0, usedBytes = 0, budgetBytes = 0, hits = 0, misses = 0, savedMs = 0 } = stats;
  const bytes = [formatBytes(usedBytes), formatBytes(budgetBytes)];
  return [name, String(entries), ...bytes, String(hits), String(misses), `${(savedMs / 1000).toFixed(1)} s`];
}

function explainCommand(): Command {
  return asking(new Command('explain'))
    .description('tells what a running server knows of a key: where its entry is, or why it is not there')
    .argument('<key>', 'the key of a result, as the Cache-Status header of its answer has it')
    .action(async (key: string, flags: ServerFlags) => {
      show(flags, await ask(flags, 'GET', `/v2/cache/keys/${encodeURIComponent(key)}`));
    });
}

function clearCommand(): Command {
  return asking(new Command('clear'))
    .description('takes entries out of the cache of a running server, and of all its tiers')
    .option('--entry <key>', 'one entry')
    .option('--tag <tag>', 'all with a tag')
    .option('--model <name>', 'all that a model computed')
    .option('--tenant <name>', 'all that a tenant asked for')
    .action(async (flags: ServerFlags & { entry?: string; tag?: string; model?: string; tenant?: string }) => {
      const { entry, tag, model, tenant } = flags;
      const given = Object.entries({ key: entry, tag, model, tenant }).filter(([, value]) => value !== undefined);
      if (given.length !== 1) {
        throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', 'Give one of --entry, --tag, --model and --tenant.');
      }
      show(flags, await ask(flags, 'POST', '/v2/cache/invalidate', Object.fromEntries(given)));
    });
}

function whatIfCommand(): Command {
  return asking(new Command('what-if'))
    .description(
      'tells what caches of other sizes and policies would have given, where the settings have them followed',
    )
    .action(async (flags: ServerFlags) => {
      const report = (await ask(flags, 'GET', '/v2/cache/what-if')) as Readonly<
        Record<string, { readonly estimates: readonly Readonly<Record<string, number | string | null>>[] }>
      >;
      if (flags.json === true) {
        printJson(report);
        return;
      }
      if (Object.keys(report).length === 0) {
        print('No partition is followed; set whatIf, for example: whatIf: { results: { times: [0.5, 1, 2] } }.');
        return;
      }
      const rows = Object.entries(report).flatMap(([name, { estimates }]) =>
        estimates.map(({ policy, budgetBytes, hitRate, costSavedRate }) => [
          name,
          String(policy),
          formatBytes(Number(budgetBytes)),
          percent(hitRate),
          percent(costSavedRate),
        ]),
      );
      print(table([['partition', 'policy', 'budget', 'hits', 'cost saved'], ...rows]));
    });
}

function percent(rate: number | string | null | undefined): string {
  return typeof rate === 'number' ? `${(100 * rate).toFixed(1)}%` : '-';
}

function asking(command: Command): Command {
  return command
    .option('--server <url>', 'the server to ask', process.env['INFERKV_URL'] ?? 'http://127.0.0.1:8000')
    .option('--key <key>', 'an API key of the role admin; INFERKV_KEY if left out')
    .option('--json', 'print JSON and nothing else');
}

async function ask(flags: ServerFlags, method: string, path: string, body?: object): Promise<Answer> {
  const key = flags.key ?? process.env['INFERKV_KEY'];
  let response: Response;
  try {
    response = await fetch(new URL(path, flags.server), {
      method,
      headers: { ...(key !== undefined && { authorization: `Bearer ${key}` }), 'content-type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
  } catch (error) {
    const cause = (error as Error).cause ?? error;
    throw new InferkvError(
      'ERR_INFERKV_STORE_FAILED',
      `There is no server at ${flags.server} (${messageOf(cause)}); start one with "inferkv serve", or give its address with --server.`,
      { cause },
    );
  }
  const answer = (await response.json()) as Answer;
  if (response.ok) return answer;
  const code =
    response.status === 401 || response.status === 403 ? 'ERR_INFERKV_UNAUTHORIZED' : 'ERR_INFERKV_INPUT_INVALID';
  const { error } = answer;
  throw new InferkvError(code, typeof error === 'string' ? error : `The server answered ${response.status}.`);
}

function show(flags: ServerFlags, answer: Answer): void {
  if (flags.json === true) printJson(answer);
  else
    print(
      table(
        Object.entries(answer).map(([name, value]) => [
          name,
          typeof value === 'string' ? value : JSON.stringify(value),
        ]),
      ),
    );
}
