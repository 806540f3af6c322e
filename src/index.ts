export {
  createInferenceCache,
  type InferenceCache,
  type InferenceCacheOptions,
  type WrapOptions,
  type WrappedArtifact,
} from './compose.ts';
export type { Breakdown, CacheExplanation, Invalidation, PartitionOptions } from './compose-partitions.ts';
export type { WhatIfReport } from './compose-what-if.ts';
export { defineConfig, type InferkvConfig, type WhatIfSettings } from './config/schema.ts';
export type { ServerOptions } from './config/server-settings.ts';
export { InferkvError, isInferkvError, type ErrorCode, type ErrorDetails } from './base/errors.ts';
export {
  tensor,
  type NumericData,
  type Tensor,
  type TensorData,
  type Tensors,
  type TensorType,
} from './base/tensor.ts';
export type { CachedModel, ModelStatus, UnreadableModel } from './inference/cached-model.ts';
export { attachResults, type AttachedResults } from './inference/attached-results.ts';
export { requestKey, type ModelKey, type RequestIdentity } from './inference/request-key.ts';
export type { SharedPartitionHandle } from './cache/shared-messages.ts';
export type { Answer, CacheMode, CacheReport, LeasedAnswer, RequestOptions } from './inference/result-cache.ts';
export type { OrtSessionLike, OrtTensors, WrappedOrtSession } from './inference/wrapped-ort.ts';
export type { ModelSettings } from './models/model-settings.ts';
export type {
  Artifact,
  ArtifactFile,
  Engine,
  RunOptions,
  RunResult,
  Session,
  SessionMetadata,
  SessionOptions,
  TensorSpec,
} from './engines/engine.ts';
export { OnnxEngine } from './engines/onnx/engine.ts';
export { TorchScriptEngine } from './engines/torchscript/engine.ts';
export { listenersTogether, type UsedEntries, type UseListener, type UseSampler } from './telemetry/use-listener.ts';
export { createWhatIf, type WhatIf, type WhatIfEstimate, type WhatIfOptions } from './simulator/what-if/what-if.ts';
export type {
  EntryFacts,
  Fetched,
  FetchOptions,
  Key,
  Lease,
  Loaded,
  Partition,
  PartitionStats,
  TierName,
} from './cache/partition.ts';
export type {
  DepartedEntry,
  DepartureReason,
  Explanation,
  PresentEntry,
  RefusalReason,
  RefusedEntry,
} from './cache/explanation.ts';
export type { TagStats } from './cache/statistics.ts';
export type { TenantStats } from './cache/tenants.ts';
export type { PartitionName } from './config/partitions.ts';
export type { TierReport, TiersReport } from './compose-tiers.ts';
export type { PartitionTier, PartitionTiers, TierSettings } from './config/tiers.ts';
export { openRecord, sealRecord, type CacheRecord, type RecordFault, type SigningKey } from './stores/record.ts';
export type {
  CallOptions,
  EpochAuthority,
  EpochListener,
  GetOptions,
  GrantAuthority,
  PutOptions,
  PutOutcome,
  Store,
  StoreStats,
  StoreTraits,
} from './stores/store.ts';
export type { Policy, PolicyContext, PolicyFactory } from './policies/policy.ts';
export type { ChannelMessages, ChannelName } from './telemetry/channels.ts';
