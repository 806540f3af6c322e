/**
 * ResNet-50 as a TorchScript program: put in the cache, taken from it, run with no load time.
 *
 *     npx node examples/resnet50-torchscript.ts
 *     npx node examples/resnet50-torchscript.ts --model my.pt --image cat.jpg --labels imagenet.txt
 *
 * Needs the addon for libtorch (`npm run build:torch`); without `--model` also a Python with torchvision, which scripts
 * the model by assets/script_resnet50.py. docs/torchscript.md has the set-up.
 */
import { basename, resolve } from 'node:path';
import { parseArgs } from 'node:util';

import { readImage, readLabels, syntheticImage, topClasses, torchscriptRepository } from '../src/demo/index.ts';
import { createInferenceCache, type Answer } from '../src/index.ts';

const { values } = parseArgs({
  options: { model: { type: 'string' }, image: { type: 'string' }, labels: { type: 'string' } },
});

// A repository is a folder, `resnet50/1/model.pt`, or one file.
const repository = values.model === undefined ? await torchscriptRepository() : resolve(values.model);
const name = values.model === undefined ? 'resnet50' : basename(values.model, '.pt');
const image = values.image === undefined ? syntheticImage() : await readImage(values.image);

await using cache = createInferenceCache({ repository });
const model = cache.model(name);

// Put in the cache: loaded once, off this thread, for everybody who asks from now on.
const start = performance.now();
await model.load();
console.log(`put in the cache  ${(performance.now() - start).toFixed(1).padStart(8)} ms`);

// The name of its input is the name of the argument of `forward`; torchvision calls it x.
const [input] = (await model.metadata()).inputs;
const inputs = { [input?.name ?? 'x']: image };

function report(what: string, { cache: { status, elapsedMs, savedMs } }: Answer): void {
  console.log(`${what.padEnd(16)}  ${elapsedMs.toFixed(1).padStart(8)} ms  ${status}, ${savedMs.toFixed(1)} ms saved`);
}

// The first runs after a load are slower: libtorch watches the shapes and optimises the program for them.
for (let run = 0; run < 3; run++) await model.run(inputs, { cache: 'bypass' });

// Taken from the cache and run: no load time. Then the same question again: no run either.
report('run', await model.run(inputs));
const answer = await model.run(inputs);
report('asked again', answer);

const [scores] = Object.values(answer.outputs);
if (scores !== undefined) {
  const labels = values.labels === undefined ? [] : await readLabels(values.labels);
  for (const { label, probability } of topClasses(scores, labels, 3)) {
    console.log(`${(100 * probability).toFixed(1).padStart(7)} %  ${label}`);
  }
}
