/** The thread that runs one TorchScript model; threads of one process share what is loaded. */
import { invariant } from '../../base/assertions.ts';
import { InferkvError } from '../../base/errors.ts';
import { free, serveModel, verifiedBytes } from '../model-thread.ts';
import { loadAddon, type NativeModel } from './addon.ts';
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
  const prepare = { freeze: freeze || optimizeForInference, optimizeForInference, method };
  // What freezing leaves depends on the method; else all methods of a file share its weights.
  const key = prepare.freeze ? JSON.stringify([file.digest, prepare]) : file.digest;
  let model: NativeModel | undefined = addon.find(key);
  if (model === undefined) {
    const bytes = await verifiedBytes(file);
    checkArchive(bytes, file.path);
    try {
      model = await guard(() => addon.load(key, bytes, prepare));
    } catch (error) {
      throw new InferkvError(
        'ERR_INFERKV_ARTIFACT_INVALID',
        `libtorch cannot load ${file.path}: ${torchMessage(error)}`,
        { cause: error },
      );
    } finally {
      free(bytes);
    }
  }
  return new TorchRunner(model, threads, options, noticesOf(runtime));
});
