/** `inferkv record`: serves, and writes a trace of what is asked for. */
import { Command } from 'commander';

import { parseBytes } from '../base/bytes.ts';
import { systemClock } from '../base/clock.ts';
import { InferkvError, messageOf } from '../base/errors.ts';
import { TraceRecorder } from '../simulator/index.ts';
import { serve, withServeFlags, type ServeFlags } from './serve.ts';

interface RecordFlags extends ServeFlags {
  readonly out: string;
  readonly maxBytes: string;
  readonly files: string;
}

const EXAMPLES = `
Takes every flag of "serve". What is written tells when which entry was asked for, its size and its cost, by ids that nobody
can trace back to a key, nor from one recording to another. No input or output is written.

  inferkv record --out traces --repository models
  inferkv simulate traces/*.jsonl --join --partition results --sizes 512MB,1GB,2GB`;

export function recordCommand(): Command {
  return withServeFlags(new Command('record'))
    .description('serves like "serve", and writes a trace for "simulate"')
    .requiredOption('--out <folder>', 'where the trace files go')
    .option('--max-bytes <size>', 'the size of a file at most', '64MB')
    .option('--files <number>', 'files in the folder at most; the oldest go', '8')
    .addHelpText('after', EXAMPLES)
    .action(record);
}

async function record({ out, maxBytes, files, ...flags }: RecordFlags): Promise<void> {
  const maxFileBytes = maxBytes.includes('%') ? undefined : parseBytes(maxBytes, 0);
  if (maxFileBytes === undefined) {
    throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', `--max-bytes: "${maxBytes}" is no size; write it as 64MB.`);
  }
  const recorder = await TraceRecorder.start({
    folder: out,
    maxFileBytes,
    maxFiles: Number(files),
    clock: systemClock,
    onFailure: (error) =>
      void process.stderr.write(`The recording ended, as ${out} cannot be written to: ${messageOf(error)}\n`),
  });
  const companion = {
    listen: (partition: string) => recorder.listener(partition),
    greeting: `Recording to ${out}.`,
    close: async (): Promise<void> => {
      await recorder.close();
      const { requests, dropped } = recorder.stats();
      process.stderr.write(`Recorded ${requests} requests in ${out}; ${dropped} came too fast to be written.\n`);
    },
  };
  try {
    await serve(flags, companion);
  } catch (error) {
    await recorder.close();
    throw error;
  }
}
