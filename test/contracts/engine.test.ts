import { after } from 'node:test';

import { createInferenceCache } from '../../src/index.ts';
import { OnnxEngine } from '../../src/engines/onnx/engine.ts';
import { describeEngine } from './engine.ts';

const cache = createInferenceCache();
after(() => cache.close());

describeEngine('onnx', () => new OnnxEngine());
describeEngine('onnx, wrapped', () => cache.wrap(new OnnxEngine()));
