/** `inferkv demo`: what the cache is worth, measured on the spot. */
import { Argument, Command } from 'commander';

import { isInferkvError } from '../base/errors.ts';
import { print, printJson } from './common.ts';
import { resnetStory, type ResnetFlags, type Story } from './demo-resnet.ts';
import { textStory } from './demo-text.ts';

type StoryName = 'resnet' | 'text';

interface DemoFlags extends ResnetFlags {
  readonly json?: true;
}

export function demoCommand(): Command {
  return new Command('demo')
    .description('runs ResNet-50 with and without the cache, and reads the text on an image twice')
    .addArgument(new Argument('[story]', 'one of the two; both if left out').choices(['resnet', 'text']))
    .option('--model <file>', 'resnet: a model of your own, .onnx or .pt')
    .option('--image <file>', 'an image of your own (needs the package sharp)')
    .option('--labels <file>', 'resnet: names of the classes, one a line')
    .option('--json', 'print the figures as one JSON object')
    .action(demo);
}

async function demo(wanted: StoryName | undefined, flags: DemoFlags): Promise<void> {
  // Something of one's own is for one story only, and for the first unless the other is named.
  const hasOwn = flags.model !== undefined || flags.image !== undefined || flags.labels !== undefined;
  const names: readonly StoryName[] = wanted !== undefined ? [wanted] : hasOwn ? ['resnet'] : ['resnet', 'text'];
  const told: (readonly [StoryName, Story])[] = [];
  for (const name of names) {
    const story = await tell(name, flags, names.length > 1);
    if (flags.json !== true) print(`${told.length === 0 ? '' : '\n'}${story.text.trimEnd()}`);
    told.push([name, story]);
  }
  if (flags.json !== true) return;
  const [only] = told;
  if (told.length === 1 && only !== undefined) printJson(only[1].figures);
  else printJson(Object.fromEntries(told.map(([name, { figures }]) => [name, figures])));
}

/** One of several stories may lack its packages without spoiling the others. */
async function tell(name: StoryName, flags: DemoFlags, mayLack: boolean): Promise<Story> {
  if (name === 'resnet') return resnetStory(flags);
  try {
    return await textStory(flags.image);
  } catch (error) {
    if (!mayLack || !isInferkvError(error, 'ERR_INFERKV_PEER_MISSING')) throw error;
    return {
      figures: { skipped: error.message },
      text: `The second story, reading text, is left out. ${error.message}`,
    };
  }
}
