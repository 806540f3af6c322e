import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { bytesOf, type NumericData } from '../base/tensor.ts';
import { cacheFolder, demoRepository } from '../demo/repository.ts';
import { syntheticImage } from '../demo/index.ts';

/** The demo models, and something to ask them. */
export interface DemoModels {
  readonly repository: string;
  /** Commands to paste once they are served at an address. */
  readonly commands: (address: string) => readonly string[];
}

/** Makes the demo models where they are not there yet, and a request for one of them. */
export async function makeDemo(): Promise<DemoModels> {
  const repository = await demoRepository();
  const { shape, data } = syntheticImage();
  const bytes = bytesOf(data as NumericData);
  const input = { name: 'input', shape, datatype: 'FP32', parameters: { binary_data_size: bytes.byteLength } };
  const json = Buffer.from(JSON.stringify({ inputs: [input], parameters: { binary_data_output: true } }));
  const request = join(cacheFolder(), 'demo-request.bin');
  await mkdir(cacheFolder(), { recursive: true });
  await writeFile(request, Buffer.concat([json, bytes]));
  return {
    repository,
    commands: (address) => [
      `curl -s ${address}/v2/models/resnet50`,
      `curl -s -D - -o /dev/null -H 'Inference-Header-Content-Length: ${json.length}' --data-binary '@${request}' ${address}/v2/models/resnet50/infer`,
      `curl -s ${address}/metrics | grep inferkv_answers`,
    ],
  };
}
