import { after } from 'node:test';

import { systemClock } from '../../src/base/clock.ts';
import { isInferkvError } from '../../src/base/errors.ts';
import { createInferenceCache } from '../../src/index.ts';
import { BatchingSession } from '../../src/engines/batching-session.ts';
import type { Engine, Session } from '../../src/engines/engine.ts';
import { OnnxEngine } from '../../src/engines/onnx/engine.ts';
import { TorchScriptEngine } from '../../src/engines/torchscript/engine.ts';
import { torchAbsent } from '../support/torchscript.ts';
import { describeEngine } from './engine.ts';
import { furtherOnnx, onnxModels } from './onnx-models.ts';
import { torchscriptModels } from './torchscript-models.ts';

const cache = createInferenceCache();
after(() => cache.close());

const onnx = { further: furtherOnnx };
describeEngine('onnx', () => new OnnxEngine(), onnxModels, onnx);
describeEngine('onnx, wrapped', () => cache.wrap(new OnnxEngine()), onnxModels, onnx);
describeEngine('onnx, batched', () => batched(new OnnxEngine()), onnxModels, onnx);

const torchscript = { skip: torchAbsent() };
describeEngine('torchscript', () => new TorchScriptEngine(), torchscriptModels, torchscript);
describeEngine('torchscript, wrapped', () => cache.wrap(new TorchScriptEngine()), torchscriptModels, torchscript);
describeEngine('torchscript, batched', () => batched(new TorchScriptEngine()), torchscriptModels, torchscript);

/** Every session of an engine that can be batched, batched. */
function batched(engine: Engine): Engine {
  const { name, version, extensions } = engine;
  return {
    name,
    version,
    extensions,
    load: async (artifact, options = {}, signal) => {
      const session = await engine.load(artifact, options, signal);
      const { workers = 1, maxQueue = 1024 } = options;
      return batchedIfFit(session, workers, maxQueue);
    },
  };
}

function batchedIfFit(session: Session, workers: number, maxQueue: number): Session {
  try {
    return new BatchingSession(session, { maxSize: 8, workers, maxQueue, clock: systemClock });
  } catch (error) {
    if (isInferkvError(error, 'ERR_INFERKV_CONFIG_INVALID')) return session;
    throw error;
  }
}
