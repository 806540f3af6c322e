/** `inferkv/server`: serves an inference cache over HTTP. */
export { createInferenceServer, type InferenceServer, type ServedCache } from './server.ts';
export type { ServerOptions } from '../config/server-settings.ts';
