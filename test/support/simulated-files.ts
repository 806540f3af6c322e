import { basename, dirname } from 'node:path';

import type { Random } from '../../src/base/random.ts';
import type { AppendedFile, FileLayer } from '../../src/tiers/file-layer.ts';

/** What a file layer was asked to do. */
export type FileOperation =
  | 'append'
  | 'create'
  | 'makeFolder'
  | 'remove'
  | 'rename'
  | 'sync'
  | 'syncFolder'
  | 'truncate';

/** What lies on a disk after a crash. `kill`: all that was written; `dropped`: only what was synced; `torn`: that, and of the rest whatever a disk can make of it. */
export type CrashKind = 'kill' | 'dropped' | 'torn';

type Change = { readonly at: number; readonly bytes: Uint8Array } | { readonly truncateTo: number };

class FileNode {
  synced: Uint8Array = new Uint8Array();
  changes: Change[] = [];

  get content(): Uint8Array {
    return this.changes.reduce(apply, this.synced);
  }
}

class FolderNode {
  readonly names: Map<string, FileNode | FolderNode> = new Map();
}

/** One change of names, which a disk makes whole or not at all. */
interface NameChange {
  readonly folders: readonly FolderNode[];
  isSynced: boolean;
  make(
    folderOf: (node: FolderNode) => FolderNode,
    copyOf: (node: FileNode | FolderNode) => FileNode | FolderNode,
  ): void;
}

const SECTOR = 64;

/**
 * Files in memory that know what of them is on the disk itself. Operations take a random number of turns, may fail, and end
 * for ever when the machine crashes; what is on the disk then is had by `image`.
 */
export class SimulatedFiles implements FileLayer {
  readonly #random: Random;
  readonly #root: FolderNode;
  readonly #log: NameChange[] = [];
  readonly #operations: FileOperation[] = [];
  #hasCrashed = false;
  /** Crashes instead of doing the operation of that number. */
  crashAt: number = Number.POSITIVE_INFINITY;
  /** Called when it crashes. */
  onCrash: () => void = () => undefined;
  /** What an operation fails with, if it does. */
  fault: (operation: FileOperation) => Error | undefined = () => undefined;

  constructor(random: Random, root: FolderNode = new FolderNode()) {
    this.#random = random;
    this.#root = root;
  }

  /** What it was asked to do so far. */
  get operations(): readonly FileOperation[] {
    return this.#operations;
  }

  /** The disk as another process finds it after a crash. */
  image(kind: CrashKind, random: Random): SimulatedFiles {
    const copies = new Map<FileNode | FolderNode, FileNode | FolderNode>();
    const root = new FolderNode();
    copies.set(this.#root, root);
    const copyOf = (node: FileNode | FolderNode): FileNode | FolderNode => {
      const known = copies.get(node);
      if (known !== undefined) return known;
      const copy = node instanceof FolderNode ? new FolderNode() : crashed(node, kind, random);
      copies.set(node, copy);
      return copy;
    };
    copyInitial(this.#initial, copyOf);
    for (const change of this.#log) {
      const survives = kind === 'kill' || change.isSynced || (kind === 'torn' && random.below(2) === 0);
      if (survives) change.make((node) => copyOf(node) as FolderNode, copyOf);
    }
    return SimulatedFiles.#of(random, root);
  }

  /** Names as they were at first; all of them on the disk. */
  #initial: ReadonlyMap<FolderNode, ReadonlyMap<string, FileNode | FolderNode>> = new Map();

  static #of(random: Random, root: FolderNode): SimulatedFiles {
    const files = new SimulatedFiles(random, root);
    const initial = new Map<FolderNode, ReadonlyMap<string, FileNode | FolderNode>>();
    const visit = (folder: FolderNode): void => {
      initial.set(folder, new Map(folder.names));
      for (const node of folder.names.values()) if (node instanceof FolderNode) visit(node);
    };
    visit(root);
    files.#initial = initial;
    return files;
  }

  /** Every file, by its path: its bytes can be changed. */
  paths(): ReadonlyMap<string, Uint8Array> {
    const found = new Map<string, Uint8Array>();
    const visit = (folder: FolderNode, path: string): void => {
      for (const [name, node] of folder.names) {
        if (node instanceof FolderNode) visit(node, `${path}/${name}`);
        else {
          node.synced = Uint8Array.from(node.content);
          node.changes = [];
          found.set(`${path}/${name}`, node.synced);
        }
      }
    };
    visit(this.#root, '');
    return found;
  }

  async makeFolder(path: string): Promise<void> {
    await this.#step('makeFolder');
    let folder = this.#root;
    for (const name of namesOf(path)) {
      const found = folder.names.get(name);
      const next = found instanceof FolderNode ? found : new FolderNode();
      if (found === undefined) this.#link(folder, name, next);
      folder = next;
    }
  }

  async create(path: string): Promise<AppendedFile> {
    await this.#step('create');
    const node = new FileNode();
    const folder = this.#folder(dirname(path));
    if (folder.names.has(basename(path))) throw failure('EEXIST', path);
    this.#link(folder, basename(path), node);
    return {
      append: async (parts) => {
        const bytes = Uint8Array.from(Buffer.concat(parts));
        const error = await this.#mayFail('append');
        const at = node.content.length;
        // A disk that fails in the midst of it has written some of it.
        const written = error === undefined ? bytes : bytes.slice(0, this.#random.below(bytes.length + 1));
        // As pages are written to the disk one by one, the end may be there and the beginning not.
        node.changes.push({ at, bytes: written });
        if (error !== undefined) throw error;
      },
      sync: async () => {
        const changes = [...node.changes];
        await this.#step('sync');
        node.synced = changes.reduce(apply, node.synced);
        node.changes = node.changes.slice(changes.length);
      },
      truncate: async (lengthBytes) => {
        await this.#step('truncate');
        node.changes.push({ truncateTo: lengthBytes });
      },
      close: async () => this.#turns(),
    };
  }

  async read(path: string): Promise<Uint8Array> {
    await this.#turns();
    return Uint8Array.from(this.#file(path).content);
  }

  async readAt(path: string, at: number, lengthBytes: number): Promise<Uint8Array> {
    return (await this.read(path)).subarray(at, at + lengthBytes);
  }

  async list(path: string): Promise<readonly string[]> {
    await this.#turns();
    const folder = this.#find(path);
    return folder instanceof FolderNode ? [...folder.names.keys()].toSorted() : [];
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#step('rename');
    const node = this.#find(from);
    if (node === undefined) throw failure('ENOENT', from);
    const [source, target] = [this.#folder(dirname(from)), this.#folder(dirname(to))];
    this.#change([source, target], (folderOf, copyOf) => {
      if (folderOf(source).names.get(basename(from)) !== copyOf(node)) return;
      folderOf(source).names.delete(basename(from));
      folderOf(target).names.set(basename(to), copyOf(node));
    });
  }

  async syncFolder(path: string): Promise<void> {
    const folder = this.#folder(path);
    const changes = this.#log.filter(({ folders }) => folders.includes(folder));
    await this.#step('syncFolder');
    for (const change of changes) change.isSynced = true;
  }

  async remove(path: string): Promise<void> {
    await this.#step('remove');
    this.#file(path);
    this.#unlink(this.#folder(dirname(path)), basename(path));
  }

  async removeFolder(path: string): Promise<void> {
    const folder = this.#find(path);
    if (!(folder instanceof FolderNode)) return;
    for (const [name, node] of [...folder.names].toSorted(() => this.#random.next() - 0.5)) {
      if (node instanceof FolderNode) await this.removeFolder(`${path}/${name}`);
      else {
        await this.#step('remove');
        this.#unlink(folder, name);
      }
    }
    await this.#step('remove');
    this.#unlink(this.#folder(dirname(path)), basename(path));
  }

  #link(folder: FolderNode, name: string, node: FileNode | FolderNode): void {
    this.#change([folder], (folderOf, copyOf) => void folderOf(folder).names.set(name, copyOf(node)));
  }

  #unlink(folder: FolderNode, name: string): void {
    const node = folder.names.get(name);
    if (node === undefined) return;
    this.#change([folder], (folderOf, copyOf) => {
      if (folderOf(folder).names.get(name) === copyOf(node)) folderOf(folder).names.delete(name);
    });
  }

  #change(folders: readonly FolderNode[], make: NameChange['make']): void {
    make(
      (node) => node,
      (node) => node,
    );
    this.#log.push({ folders, isSynced: false, make });
  }

  #find(path: string): FileNode | FolderNode | undefined {
    let node: FileNode | FolderNode | undefined = this.#root;
    for (const name of namesOf(path)) node = node instanceof FolderNode ? node.names.get(name) : undefined;
    return node;
  }

  #folder(path: string): FolderNode {
    const node = this.#find(path);
    if (!(node instanceof FolderNode)) throw failure('ENOENT', path);
    return node;
  }

  #file(path: string): FileNode {
    const node = this.#find(path);
    if (!(node instanceof FileNode)) throw failure('ENOENT', path);
    return node;
  }

  async #step(operation: FileOperation): Promise<void> {
    const error = await this.#mayFail(operation);
    if (error !== undefined) throw error;
  }

  async #mayFail(operation: FileOperation): Promise<Error | undefined> {
    await this.#turns();
    if (this.#operations.push(operation) > this.crashAt) await this.#crash();
    return this.fault(operation);
  }

  async #turns(): Promise<void> {
    if (this.#hasCrashed) await this.#crash();
    for (let turns = this.#random.below(4); turns > 0; turns--) await Promise.resolve();
    if (this.#hasCrashed) await this.#crash();
  }

  #crash(): Promise<never> {
    if (!this.#hasCrashed) {
      this.#hasCrashed = true;
      this.onCrash();
    }
    // Nobody will ever hear of it.
    return Promise.withResolvers<never>().promise;
  }
}

/** What a crash leaves of a file. */
function crashed(node: FileNode, kind: CrashKind, random: Random): FileNode {
  const copy = new FileNode();
  const changes = node.changes.flatMap((change): readonly Change[] => {
    if (kind === 'kill') return [change];
    if (kind === 'dropped' || random.below(3) === 0) return [];
    return 'bytes' in change && random.below(2) === 0
      ? [{ at: change.at, bytes: torn(change.bytes, random) }]
      : [change];
  });
  copy.synced = Uint8Array.from(changes.reduce(apply, node.synced));
  return copy;
}

/** Sectors that were written, sectors that were not, sectors with something else, and an end that may be missing. */
function torn(bytes: Uint8Array, random: Random): Uint8Array {
  const copy = bytes.slice(0, random.below(2) === 0 ? bytes.length : random.below(bytes.length + 1));
  const makeOf = random.below(3);
  for (let at = 0; at < copy.length; at += SECTOR) {
    if (makeOf === 0 || random.below(2) === 0) continue;
    const sector = copy.subarray(at, at + SECTOR);
    if (makeOf === 1) sector.fill(0);
    else for (const [index] of sector.entries()) sector[index] = random.below(256);
  }
  return copy;
}

function apply(bytes: Uint8Array, change: Change): Uint8Array {
  if ('truncateTo' in change) return bytes.slice(0, change.truncateTo);
  const grown = new Uint8Array(Math.max(bytes.length, change.at + change.bytes.length));
  grown.set(bytes);
  grown.set(change.bytes, change.at);
  return grown;
}

function copyInitial(
  initial: ReadonlyMap<FolderNode, ReadonlyMap<string, FileNode | FolderNode>>,
  copyOf: (node: FileNode | FolderNode) => FileNode | FolderNode,
): void {
  for (const [folder, names] of initial) {
    for (const [name, node] of names) (copyOf(folder) as FolderNode).names.set(name, copyOf(node));
  }
}

function namesOf(path: string): readonly string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}

function failure(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}
