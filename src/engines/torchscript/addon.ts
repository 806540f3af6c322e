/** The border to the native addon (native/torchscript): what it offers, and where it is found. */
import { createRequire } from 'node:module';

import { InferkvError, messageOf } from '../../base/errors.ts';
import { readStamp, type BuildStamp } from './stamp.ts';

/** A tensor as it crosses the border: its elements as bytes, which are read in place. */
export interface BorderTensor {
  readonly type: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/**
 * The value of one argument, as its type asks: a tensor; `bigint` for int, `number` for float, `boolean`, `string`; an
 * array for lists and tuples, one of `[key, value]` for dictionaries; `undefined` for a default or nothing.
 */
export type BorderValue = BorderTensor | bigint | number | boolean | string | undefined | readonly BorderValue[];

/** A type of TorchScript. */
export interface DescribedType {
  /** Its class in libtorch: `TensorType`, `OptionalType`, `ListType`, `TupleType`, `DictType`, `IntType` and so on. */
  readonly kind: string;
  /** What it is made of; of a dictionary the type of the keys, then of the values. */
  readonly elements: readonly DescribedType[];
  /** Fields of a named tuple. */
  readonly names?: readonly string[];
  /** As it is written in Python. */
  readonly text: string;
}

/** An argument of a method. */
export interface DescribedArgument extends DescribedType {
  readonly name: string;
  readonly hasDefault: boolean;
}

/** What a method takes, without the module itself, and gives. */
export interface DescribedMethod {
  readonly arguments: readonly DescribedArgument[];
  readonly returns: DescribedType;
}

/** An output: in `buffer`, in its target if it was written there, or as `text`. */
export interface BorderOutput {
  readonly name: string;
  readonly type: string;
  readonly shape: readonly number[];
  readonly buffer?: ArrayBuffer;
  readonly text?: string;
}

/** What a run gives. */
export interface BorderResult {
  readonly outputs: readonly BorderOutput[];
  /** Names of all outputs there were, wanted or not. */
  readonly names: readonly string[];
  readonly computeMs: number;
}

/** How a module is prepared after it was read. */
export interface PrepareOptions {
  readonly freeze: boolean;
  readonly optimizeForInference: boolean;
  /** The method that has to survive freezing. */
  readonly method: string;
}

/** A module in memory. Every method blocks, and throws an `Error` with libtorch's own message. */
export interface NativeModel {
  /** Whether other threads that load it get the same weights; not if its runs change it. */
  readonly isShared: boolean;
  describe(method: string): DescribedMethod;
  /**
   * Runs a method. Inputs are read in place, and copied only for a model that would write to them or keep them.
   *
   * @param outputs names of those wanted; all for `undefined`
   * @param targets memory that outputs of the same type are written into if they fit
   */
  run(
    method: string,
    values: readonly BorderValue[],
    threads: number,
    outputs: readonly string[] | undefined,
    targets: Readonly<Record<string, { readonly type: string; readonly bytes: Uint8Array }>>,
  ): BorderResult;
  release(): void;
}

/** What the addon says of the libraries it runs on. */
export interface NativeRuntime {
  readonly version: string;
  /** What multiplies matrices: `mkl`, `OpenBLAS ...`, `blis`, `atlas`, `accelerate`, or `reference`. */
  readonly blas: string;
  /** `OMP_WAIT_POLICY` as the process really has it. */
  readonly waitPolicy: string | undefined;
}

/** The addon. Modules are shared by all threads of the process, by their keys. */
export interface TorchAddon {
  runtime(): NativeRuntime;
  /** The module that is loaded under this key, if there is one that may be shared. */
  find(key: string): NativeModel | undefined;
  /** Loads a module from the bytes of its file. */
  load(key: string, bytes: Uint8Array, options: PrepareOptions): NativeModel;
}

const PACKAGE = 'inferkv-torchscript';

/** The line that sets the engine up: in an empty project, beside the installed sources, or in a checkout of this one. */
function setUpLine(): string {
  const folder = addonFolder();
  if (folder === undefined) return `npm install ${PACKAGE} && npx inferkv build-torch`;
  return folder.includes('node_modules') ? 'npx inferkv build-torch' : 'npm run build:torch';
}

/** @param what is wrong with the addon, as the end of a sentence */
export function addonMissing(what: string, cause?: unknown): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_PEER_MISSING',
    `TorchScript models need the addon for libtorch, which ${what}; set it up with: ${setUpLine()} (it takes a C++ compiler and libtorch: docs/torchscript.md).`,
    { cause, key: PACKAGE },
  );
}

/** The folder of the package with the addon's sources; `undefined` if it is not installed. */
export function addonFolder(): string | undefined {
  try {
    return createRequire(import.meta.url)
      .resolve(`${PACKAGE}/package.json`)
      .slice(0, -'/package.json'.length);
  } catch {
    return undefined;
  }
}

/**
 * What was built, without loading it.
 *
 * @throws InferkvError `ERR_INFERKV_PEER_MISSING` with the line that sets it up
 */
export function builtAddon(): BuildStamp {
  const folder = addonFolder();
  if (folder === undefined) throw addonMissing(`is in the package ${PACKAGE}, and that is not installed`);
  const stamp = readStamp(folder);
  if (stamp === undefined) throw addonMissing('is not built yet');
  return stamp;
}

/** @throws InferkvError `ERR_INFERKV_PEER_MISSING` with the line that sets it up */
export function loadAddon(): { readonly addon: TorchAddon; readonly runtime: NativeRuntime } {
  const stamp = builtAddon();
  let addon: TorchAddon;
  let runtime: NativeRuntime;
  try {
    addon = createRequire(import.meta.url)(stamp.path) as TorchAddon;
    runtime = addon.runtime();
  } catch (error) {
    throw addonMissing(`could not be loaded (${messageOf(error)})`, error);
  }
  if (runtime.version === stamp.torchVersion) return { addon, runtime };
  throw addonMissing(`was built for libtorch ${stamp.torchVersion} and finds ${runtime.version}`);
}
