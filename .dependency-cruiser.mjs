/** Imports go down only: what each folder of src/ may import, besides itself. Everything not named here is a violation. */
const MAY_IMPORT = {
  base: [],
  telemetry: ['base'],
  policies: ['base'],
  simulator: ['base', 'telemetry', 'policies'],
  stores: ['base', 'telemetry'],
  cache: ['base', 'telemetry', 'policies', 'stores'],
  engines: ['base', 'telemetry'],
  images: ['base'],
  models: ['base', 'telemetry', 'cache', 'engines', 'images'],
  inference: ['base', 'telemetry', 'cache', 'engines', 'models'],
  server: ['base', 'telemetry', 'cache', 'engines', 'models', 'inference', 'config'],
  config: ['base', 'models'],
  demo: ['base', 'engines', 'images', 'inference'],
  cli: [
    'base',
    'telemetry',
    'config',
    'compose.ts',
    'compose-what-if.ts',
    'cache',
    'demo',
    'engines',
    'images',
    'inference',
    'models',
    'policies',
    'server',
    'simulator',
  ],
  'compose-partitions.ts': [
    'base',
    'telemetry',
    'config',
    'compose-what-if.ts',
    'policies',
    'simulator',
    'cache',
    'models',
    'inference',
  ],
  'compose-what-if.ts': ['base', 'config', 'simulator'],
  'compose.ts': [
    'base',
    'telemetry',
    'config',
    'compose-partitions.ts',
    'compose-what-if.ts',
    'policies',
    'simulator',
    'cache',
    'engines',
    'models',
    'inference',
  ],
  'index.ts': [
    'base',
    'telemetry',
    'config',
    'compose.ts',
    'compose-partitions.ts',
    'compose-what-if.ts',
    'policies',
    'simulator',
    'cache',
    'engines',
    'models',
    'inference',
  ],
};

/** Packages that only these files may import, as they are optional, heavy, or both. */
const ONLY_FROM = {
  'onnxruntime-node': '^src/engines/onnx/(peer|runner)[.]ts$',
  sharp: '^src/images/image[.]ts$',
  fastify: '^src/server/',
  'prom-client': '^src/telemetry/prometheus[.]ts$',
  commander: '^src/cli/',
};

const layers = Object.entries(MAY_IMPORT).map(([from, others]) => ({
  name: `imports-go-down-from-${from}`,
  comment: `src/${from} may import only: ${[from, ...others].join(', ')} (ARCHITECTURE.md).`,
  severity: 'error',
  from: { path: `^src/${from}` },
  to: { path: '^src/', pathNot: `^src/(${[from, ...others].join('|')})(/|$)` },
}));

const packages = Object.entries(ONLY_FROM).map(([name, files]) => ({
  name: `${name}-has-one-door`,
  severity: 'error',
  from: { path: '^src/', pathNot: [files, '[.]test[.]ts$'] },
  to: { path: `node_modules/${name}/` },
}));

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    ...layers,
    ...packages,
    {
      name: 'every-folder-has-its-place',
      comment: 'A new folder of src/ needs a line in the table of .dependency-cruiser.mjs.',
      severity: 'error',
      from: { path: '^src/', pathNot: `^src/(${Object.keys(MAY_IMPORT).join('|')})(/|$)` },
      to: {},
    },
    {
      name: 'no-circles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'front-doors-stand-alone',
      comment: 'What callers hold (a cached model, a wrapped session) builds on the result cache, not on each other.',
      severity: 'error',
      from: { path: '^src/inference/(cached-model|wrapped-ort|wrapped-session)[.]ts$' },
      to: { path: '^src/inference/(cached-model|wrapped-ort|wrapped-session)[.]ts$' },
    },
    {
      name: 'nothing-published-needs-a-test',
      severity: 'error',
      from: { path: '^src/', pathNot: '[.]test[.]ts$' },
      to: { path: ['^(test|benchmarks|scripts)/', '[.]test[.]ts$'] },
    },
    { name: 'everything-resolves', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '[.]test[.]ts$' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    combinedDependencies: true,
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
};
