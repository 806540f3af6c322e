import { createHash, hash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import { dirname, isAbsolute, join, normalize, sep } from 'node:path';

import { InferkvError, messageOf } from '../base/errors.ts';
import type { Artifact, ArtifactFile } from '../engines/engine.ts';

/** What tells, without reading, that files are still the same: device, inode, size and times of each. */
export type FileSignature = string;

/** An artifact with the signature its files had while they were read. */
export interface ReadArtifact {
  readonly artifact: Artifact;
  readonly signature: FileSignature;
}

/** Names models by their content. */
export interface ArtifactReader {
  /**
   * Reads the files of a model and names their content.
   *
   * @throws InferkvError `ERR_INFERKV_ARTIFACT_MISSING`, `ERR_INFERKV_ARTIFACT_INVALID`, `ERR_INFERKV_ARTIFACT_CHANGED`
   */
  read(path: string): Promise<ReadArtifact>;
  /** @throws InferkvError `ERR_INFERKV_ARTIFACT_MISSING` */
  signatureOf(path: string): Promise<FileSignature>;
  /** The digest that a model of one file with these bytes has. */
  digestOfBytes(bytes: Uint8Array): string;
}

/** What an artifact reader is told. */
export interface ArtifactReaderOptions {
  /** Names of the further files that a model file refers to, relative to its folder, as the file spells them. */
  readonly companions: (path: string) => Promise<readonly string[]>;
}

// Hashing one piece takes 0.6 ms of the main thread; between two the loop turns.
const PIECE_BYTES = 1024 * 1024;
const MAX_TRIES = 3;
const MAX_KNOWN = 1000;
const DOMAIN = 'inferkv/artifact/1';

export function createArtifactReader(options: ArtifactReaderOptions): ArtifactReader {
  return new FileArtifactReader(options);
}

export function sameSignature(a: FileSignature, b: FileSignature): boolean {
  return a === b;
}

class FileArtifactReader implements ArtifactReader {
  readonly #companions: ArtifactReaderOptions['companions'];
  /** Digests of files by path and signature, so that an unchanged file is read once. */
  readonly #known = new Map<string, ReadArtifact>();

  constructor({ companions }: ArtifactReaderOptions) {
    this.#companions = companions;
  }

  async read(path: string): Promise<ReadArtifact> {
    const known = this.#known.get(path);
    if (
      known !== undefined &&
      known.signature === (await this.#signature(known.artifact.files.map((file) => file.path)))
    ) {
      return known;
    }
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const fileNames = await this.#names(path);
      const paths = fileNames.map(([, filePath]) => filePath);
      const signature = await this.#signature(paths);
      const files = [];
      for (const [name, filePath] of fileNames) files.push(await readFileDigest(name, filePath));
      if ((await this.#signature(paths)) !== signature) continue;
      const read = { artifact: artifactOf(path, files), signature };
      this.#remember(path, read);
      return read;
    }
    throw new InferkvError(
      'ERR_INFERKV_ARTIFACT_CHANGED',
      `The model file ${path} keeps changing while it is read; write it under another name and rename it when it is whole.`,
      { key: path },
    );
  }

  async signatureOf(path: string): Promise<FileSignature> {
    const known = this.#known.get(path)?.artifact.files.map((file) => file.path);
    return this.#signature(known ?? (await this.#names(path)).map(([, filePath]) => filePath));
  }

  digestOfBytes(bytes: Uint8Array): string {
    return hash('sha256', bytes);
  }

  async #names(path: string): Promise<(readonly [name: string, path: string])[]> {
    const folder = dirname(path);
    const companions = [...new Set(await this.#companions(path))].toSorted();
    return [
      ['', path],
      ...companions.map((name): readonly [string, string] => [name, companionPath(path, folder, name)]),
    ];
  }

  async #signature(paths: readonly string[]): Promise<FileSignature> {
    const parts = await Promise.all(
      paths.map(async (path) => {
        const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true }).catch((error: unknown) => {
          throw missing(path, error);
        });
        return [dev, ino, size, mtimeNs, ctimeNs].join(':');
      }),
    );
    return parts.join(';');
  }

  #remember(path: string, read: ReadArtifact): void {
    this.#known.delete(path);
    this.#known.set(path, read);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MAX_KNOWN && oldest !== undefined) this.#known.delete(oldest);
  }
}

/**
 * The digest of a model: of one file, the SHA-256 of its bytes; of several, the SHA-256 over a domain tag and each
 * file's name (with its length) and digest, the model file first, under the empty name.
 */
function artifactOf(path: string, files: readonly ArtifactFile[]): Artifact {
  const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  const [only] = files;
  if (only !== undefined && files.length === 1) return { digest: only.digest, path, sizeBytes, files };
  const digest = createHash('sha256').update(DOMAIN);
  for (const file of files) digest.update(`\n${Buffer.byteLength(file.name)}:${file.name}:${file.digest}`);
  return { digest: digest.digest('hex'), path, sizeBytes, files };
}

async function readFileDigest(name: string, path: string): Promise<ArtifactFile> {
  const file = await open(path).catch((error: unknown) => {
    throw missing(path, error);
  });
  try {
    if (!(await file.stat()).isFile()) throw invalid(path, 'is no regular file');
    const digest = createHash('sha256');
    const piece = new Uint8Array(PIECE_BYTES);
    let sizeBytes = 0;
    for (;;) {
      const { bytesRead } = await file.read(piece, 0, PIECE_BYTES);
      if (bytesRead === 0) break;
      digest.update(piece.subarray(0, bytesRead));
      sizeBytes += bytesRead;
    }
    if (sizeBytes === 0) throw invalid(path, 'is empty');
    return { name, path, sizeBytes, digest: digest.digest('hex') };
  } finally {
    await file.close();
  }
}

/** The path of a file that a model file names; it has to lie in the model's folder. */
function companionPath(path: string, folder: string, name: string): string {
  const inside = normalize(name);
  if (name === '' || name.includes('\0') || isAbsolute(inside) || inside === '..' || inside.startsWith(`..${sep}`)) {
    throw invalid(path, `names ${JSON.stringify(name)} as a file of its weights, which is not inside its folder`);
  }
  return join(folder, inside);
}

function invalid(path: string, what: string): InferkvError {
  return new InferkvError('ERR_INFERKV_ARTIFACT_INVALID', `The model file ${path} ${what}.`, { key: path });
}

function missing(path: string, cause: unknown): InferkvError {
  return new InferkvError(
    'ERR_INFERKV_ARTIFACT_MISSING',
    `The model file ${path} cannot be read: ${messageOf(cause)}`,
    {
      cause,
      key: path,
    },
  );
}
