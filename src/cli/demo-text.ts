/** The second story: the text on an image, read twice. */
import { basename } from 'node:path';

import { createInferenceCache } from '../compose.ts';
import { demoRepository, readPixels, readText, SAMPLE_IMAGE, type ReadText } from '../demo/index.ts';
import type { Story } from './demo-resnet.ts';

/** What one reading took. */
interface Reading {
  readonly read: ReadText;
  readonly totalMs: number;
  /** Milliseconds in the models, or in finding their answers. */
  readonly modelsMs: number;
  readonly hits: number;
}

/** Reads the text on the sample image, or on one of the user's, twice. */
export async function textStory(imagePath: string = SAMPLE_IMAGE): Promise<Story> {
  const repository = await demoRepository();
  const image = await readPixels(imagePath);
  await using cache = createInferenceCache({ repository });
  // Loading is the first story's subject.
  await Promise.all(['text-detection', 'text-recognition'].map((name) => cache.model(name).load()));
  const once = async (): Promise<Reading> => {
    const start = performance.now();
    const read = await readText(cache, image);
    const totalMs = performance.now() - start;
    const reports = [read.detection, ...read.recognition];
    const spent = reports.map(({ hit, costMs, savedMs }) => (hit ? costMs - savedMs : costMs));
    return {
      read,
      totalMs,
      modelsMs: spent.reduce((sum, ms) => sum + ms, 0),
      hits: reports.filter(({ hit }) => hit).length,
    };
  };
  const [first, second] = [await once(), await once()];
  const { lines } = second.read;
  return {
    figures: {
      image: imagePath,
      lines: lines.map(({ text, confidence, box }) => ({ text, confidence, box })),
      firstMs: first.totalMs,
      firstModelsMs: first.modelsMs,
      secondMs: second.totalMs,
      secondModelsMs: second.modelsMs,
      secondHits: second.hits,
    },
    text: [
      `${basename(imagePath)}: ${image.width} x ${image.height} pixels, read by two trained models`,
      '',
      ...lines.map(({ text }) => `  ${text}`),
      '',
      row('first time', first),
      row('second time', second),
      '',
      'What is left the second time is scaling the image and finding the letters in the answers.',
    ].join('\n'),
  };
}

function row(label: string, { totalMs, modelsMs, hits, read }: Reading): string {
  const answers = 1 + read.recognition.length;
  const models = `${modelsMs.toFixed(1).padStart(7)} ms of it in the models`;
  return `  ${label.padEnd(18)}${totalMs.toFixed(1).padStart(9)} ms ${models}, ${hits} of ${answers} answers from the cache`;
}
