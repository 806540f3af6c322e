import { createRequire } from 'node:module';

import type * as Ort from 'onnxruntime-node';

import { InferkvError } from '../../base/errors.ts';

/** ONNX Runtime's JavaScript interface. */
export type OrtModule = typeof Ort;

const PEER = 'onnxruntime-node';
const INSTALL = 'npm install onnxruntime-node@^1.30.0';

function missing(cause: unknown): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_PEER_MISSING',
    `ONNX models need the package ${PEER}, which could not be loaded; install it with: ${INSTALL} ` +
      '(add the line "onnxruntime-node-install=skip" to .npmrc first if its download of CUDA files fails).',
    { cause, key: PEER },
  );
}

/** @throws InferkvError `ERR_INFERKV_PEER_MISSING` with the line that installs it */
export async function loadOrt(): Promise<OrtModule> {
  try {
    // A CommonJS package: its names are on the default export, too.
    const loaded = (await import('onnxruntime-node')) as OrtModule & { default?: OrtModule };
    return loaded.default ?? loaded;
  } catch (error) {
    throw missing(error);
  }
}

/** The installed version, without loading the native library. */
export function ortVersion(): string {
  try {
    const { version } = createRequire(import.meta.url)(`${PEER}/package.json`) as { version: string };
    return version;
  } catch (error) {
    throw missing(error);
  }
}
