/** The thread that runs one TorchScript model; threads of one process share what is loaded. */
import { invariant } from '../../base/assertions.ts';
import { InferkvError } from '../../base/errors.ts';
import { free, serveModel, verifiedBytes } from '../model-thread.ts';
import { loadAddon, NO_SUCH_THING, type NativeModel, type PrepareOptions } from './addon.ts';
import { checkArchive } from './archive.ts';
import { noticesOf } from './notices.ts';
import type { TorchOptions } from './options.ts';
import { torchMessage, TorchRunner } from './runner.ts';

serveModel(async ({ artifact, threads, engine }, guard) => {
  // Checked by the engine, so that the thread need not load what checks them.
  const options = engine as unknown as TorchOptions;
  const { addon, runtime } = loadAddon();
  const [file] = artifact.files;
  invariant(file !== undefined, 'an artifact has no files');
  const { freeze, optimizeForInference, method } = options;
  const prepare: PrepareOptions = { freeze: freeze || optimizeForInference, optimizeForInference, method };
  // What freezing leaves depends on the method; else all methods of a file share its weights.
  const key = prepare.freeze ? JSON.stringify([file.digest, prepare]) : file.digest;
  const load = async (): Promise<NativeModel> => {
    const found = await guard(() => addon.find(key, method));
    if (found !== undefined) return found;
    const bytes = await verifiedBytes(file);
    try {
      checkArchive(bytes, file.path);
      return await guard(() => addon.load(key, bytes, prepare));
    } finally {
      free(bytes);
    }
  };
  const model = await load().catch((error: unknown) => {
    throw loadFailure(error, file.path, method);
  });
  return guard(() => new TorchRunner(model, threads, options, noticesOf(runtime)));
});

function loadFailure(error: unknown, path: string, method: string): InferkvError {
  if (error instanceof InferkvError) return error;
  const details = { cause: error, key: path };
  if ((error as { readonly code?: unknown }).code === NO_SUCH_THING) {
    const fault = `session.engine.method "${method}" cannot run: ${torchMessage(error)}.`;
    return new InferkvError('ERR_INFERKV_CONFIG_INVALID', fault, details);
  }
  const fault = `libtorch cannot load ${path}: ${torchMessage(error)}`;
  return new InferkvError('ERR_INFERKV_ARTIFACT_INVALID', fault, details);
}
