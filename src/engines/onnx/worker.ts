/** The thread that holds one ONNX Runtime session: loads it from verified bytes, runs it, releases it. */
import { hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { parentPort, workerData } from 'node:worker_threads';

import { invariant } from '../../base/assertions.ts';
import { InferkvError, isInferkvError, messageOf, type ErrorCode } from '../../base/errors.ts';
import type { ArtifactFile } from '../engine.ts';
import { guarded } from '../exit-guard.ts';
import type { FailedReply, LoadRequest, WorkerData, WorkerReply, WorkerRequest } from '../worker-protocol.ts';
import { loadOrt } from './peer.ts';
import { OrtRunner } from './runner.ts';

const { exitGuard } = workerData as WorkerData;

let runner: OrtRunner | undefined;

async function verifiedBytes({ path, digest }: ArtifactFile): Promise<Uint8Array> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    throw new InferkvError(
      'ERR_INFERKV_ARTIFACT_MISSING',
      `The model file ${path} cannot be read: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
  if (hash('sha256', bytes) === digest) return bytes;
  throw new InferkvError(
    'ERR_INFERKV_ARTIFACT_CHANGED',
    `The model file ${path} changed while it was being loaded; it is loaded anew with the next request.`,
  );
}

async function load({ artifact, threads, engine }: LoadRequest): Promise<WorkerReply> {
  const ort = await loadOrt();
  const [main, ...external] = artifact.files;
  invariant(main !== undefined, 'an artifact has no files');
  const model = await verifiedBytes(main);
  const externalData = await Promise.all(
    external.map(async (file) => ({ path: file.name, data: await verifiedBytes(file) })),
  );
  try {
    runner = await guarded(exitGuard, () => OrtRunner.open(ort, model, externalData, threads, engine));
  } catch (error) {
    throw new InferkvError(
      'ERR_INFERKV_ARTIFACT_INVALID',
      `ONNX Runtime cannot load ${main.path}: ${messageOf(error)}`,
    );
  }
  return { kind: 'loaded', metadata: runner.metadata };
}

function failure(error: unknown, code: ErrorCode): FailedReply {
  return { kind: 'failed', code: isInferkvError(error) ? error.code : code, message: messageOf(error) };
}

async function answer(request: WorkerRequest): Promise<void> {
  invariant(parentPort !== null, 'the worker was started as a program');
  switch (request.kind) {
    case 'load':
      parentPort.postMessage(
        await load(request).catch((error: unknown) => failure(error, 'ERR_INFERKV_ENGINE_FAILED')),
      );
      return;
    case 'run':
      try {
        invariant(runner !== undefined, 'a run before a load');
        const open = runner;
        const { reply, transfer } = await guarded(exitGuard, () => open.run(request));
        parentPort.postMessage(reply, transfer);
      } catch (error) {
        parentPort.postMessage(failure(error, 'ERR_INFERKV_ENGINE_FAILED'));
      }
      return;
    case 'close':
      await runner?.release();
      parentPort.close();
  }
}

parentPort?.on('message', (request: WorkerRequest) => void answer(request));
