/** `inferkv what-if`: what other budgets and policies would give a running server. */
import { Command } from 'commander';

import { formatBytes } from '../base/bytes.ts';
import type { WhatIfReport } from '../compose-what-if.ts';
import { ask, withAskFlags, type AskFlags } from './ask-server.ts';
import { print, printJson, table } from './common.ts';

export function whatIfCommand(): Command {
  return withAskFlags(new Command('what-if'))
    .description('asks a running server what other budgets and policies would give (its configuration turns whatIf on)')
    .action(async (flags: AskFlags) => {
      const { partitions } = await ask<{ readonly partitions: readonly WhatIfReport[] }>('/v1/cache/what-if', flags);
      if (flags.json === true) printJson({ partitions });
      else for (const each of partitions) print(textOf(each));
    });
}

function textOf({ partition, policy, budgetBytes, estimates, dropped }: WhatIfReport): string {
  const rows = estimates.map((each) => {
    const isOwn = each.policy === policy && each.budgetBytes === budgetBytes;
    const rates = [each.hitRate, each.byteHitRate, each.costSavedRate].map(percent);
    return [each.policy, formatBytes(each.budgetBytes), ...rates, String(each.trackedKeys), isOwn ? '<- as it is' : ''];
  });
  const lag = dropped > 0 ? `\n  ${dropped} uses came too fast to be counted.` : '';
  const head = ['policy', 'budget', 'hits', 'of bytes', 'of cost', 'keys followed', ''];
  return `${partition} (${policy}, ${formatBytes(budgetBytes)})\n${table([head, ...rows])}${lag}`;
}

/** A rate came as `null` where nothing was asked for yet. */
function percent(rate: number | null): string {
  return rate === null ? '-' : `${(100 * rate).toFixed(1)}%`;
}
