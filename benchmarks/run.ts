/** `npm run bench -- SUITE [--quick] [--json]` */
import { parseArgs } from 'node:util';

import { core } from './core.ts';
import { concurrency } from './concurrency.ts';
import { policies } from './policies.ts';
import { resnet } from './resnet/suite.ts';
import { server } from './server.ts';
import { stores } from './stores.ts';
import { shared } from './shared.ts';
import type { Figures, Suite } from './suite.ts';
import { whatif } from './whatif.ts';

const suites: readonly Suite[] = [resnet, concurrency, server, core, policies, shared, stores, whatif];

const USAGE = `Usage: npm run bench -- SUITE [--quick] [--json]

${suites.map(({ name, summary }) => `  ${name.padEnd(14)}${summary}`).join('\n')}

  --quick       fewer and shorter rounds: to see that it works, not to quote
  --json        one object {suite, figures} on standard output and nothing else (with npm run --silent)
`;

function table({ name }: Suite, figures: Figures): string {
  const width = Math.max(...Object.keys(figures).map((figure) => figure.length));
  const lines = Object.entries(figures).map(([figure, value]) => `  ${figure.padEnd(width)}  ${value.toPrecision(4)}`);
  return `${name}\n${lines.join('\n')}\n`;
}

const { values, positionals } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
  allowPositionals: true,
});
const suite = suites.find(({ name }) => name === positionals[0]);

if (suite === undefined || positionals.length !== 1) {
  process.stderr.write(USAGE);
  process.exitCode = 2;
} else {
  const progress = (text: string): void => void process.stderr.write(`${suite.name}: ${text}\n`);
  const figures = await suite.run({ quick: values.quick, progress });
  process.stdout.write(values.json ? `${JSON.stringify({ suite: suite.name, figures })}\n` : table(suite, figures));
}
