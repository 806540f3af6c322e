/** The thread that holds one ONNX Runtime session. */
import { invariant } from '../../base/assertions.ts';
import { InferkvError, messageOf } from '../../base/errors.ts';
import { free, serveModel, verifiedBytes } from '../model-thread.ts';
import { loadOrt } from './peer.ts';
import { OrtRunner } from './runner.ts';

serveModel(async ({ artifact, threads, engine }, guard) => {
  const ort = await loadOrt();
  const [main, ...external] = artifact.files;
  invariant(main !== undefined, 'an artifact has no files');
  const model = await verifiedBytes(main);
  const externalData = await Promise.all(
    external.map(async (file) => ({ path: file.name, data: await verifiedBytes(file) })),
  );
  try {
    const runner = await guard(() => OrtRunner.open(ort, model, externalData, threads, engine));
    if (!usesModelBytes(engine)) free(model);
    return runner;
  } catch (error) {
    throw new InferkvError(
      'ERR_INFERKV_ARTIFACT_INVALID',
      `ONNX Runtime cannot load ${main.path}: ${messageOf(error)}`,
    );
  }
});

/** A session may be told to run on the very bytes it was loaded from, which then have to stay for its whole life. */
function usesModelBytes({ extra }: Readonly<Record<string, unknown>>): boolean {
  return JSON.stringify(extra ?? {}).includes('use_ort_model_bytes');
}
