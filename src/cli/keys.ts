/** `inferkv keys`: API keys of a server, made, listed, rotated and taken away. */
import { existsSync } from 'node:fs';

import { Command, Option } from 'commander';

import { InferkvError } from '../base/errors.ts';
import { issueKey, readKeys, writeKeys, type IssuedKey, type Role, type StoredKey } from '../server/api-keys.ts';
import { configOf, print, printJson, table } from './common.ts';

interface KeyFlags {
  readonly keysFile?: string;
  readonly config?: string;
  readonly json?: true;
}

interface AddFlags extends KeyFlags {
  readonly tenant: string;
  readonly role: Role;
}

interface RotateFlags extends KeyFlags {
  readonly keepMinutes?: string;
}

const MS_PER_MINUTE = 60_000;

export function keysCommand(): Command {
  const command = new Command('keys').description('API keys of the server: add, list, rotate, remove');
  withKeyFlags(command.command('add'))
    .description('makes a key and prints it, once; only its digest is stored')
    .requiredOption('--tenant <name>', 'whose key it is; tenants never share results')
    .addOption(new Option('--role <role>', 'what it allows').choices(['infer', 'admin']).default('infer'))
    .action(add);
  withKeyFlags(command.command('list')).description('lists the keys by their ids').action(list);
  withKeyFlags(command.command('rotate <id>'))
    .description('makes a key for the same tenant and role, and takes the old one away')
    .option('--keep-minutes <minutes>', 'how long the old key stays good', '0')
    .action(rotate);
  withKeyFlags(command.command('remove <id>')).description('takes a key away').action(remove);
  return command;
}

function withKeyFlags(command: Command): Command {
  return command
    .option('--keys-file <file>', 'the file of the keys; server.keysFile of the configuration if left out')
    .option('--config <file>', 'the configuration file')
    .option('--json', 'print JSON and nothing else');
}

async function add(flags: AddFlags): Promise<void> {
  const path = await pathOf(flags);
  const keys = existsSync(path) ? readKeys(path) : [];
  const issued = issueKey({ tenant: flags.tenant, role: flags.role }, new Date());
  writeKeys(path, [...keys, issued.stored]);
  show(issued, path, flags);
}

async function list(flags: KeyFlags): Promise<void> {
  const keys = readKeys(await pathOf(flags));
  if (flags.json === true) {
    printJson(keys.map(({ sha256: _digest, ...key }) => key));
    return;
  }
  const rows = keys.map(({ id, tenant, role, createdAt, expiresAt = '-' }) => [id, tenant, role, createdAt, expiresAt]);
  print(table([['id', 'tenant', 'role', 'created', 'expires'], ...rows]));
}

async function rotate(id: string, flags: RotateFlags): Promise<void> {
  const path = await pathOf(flags);
  const keys = readKeys(path);
  const old = find(keys, id);
  const minutes = Number(flags.keepMinutes ?? 0);
  if (!(minutes >= 0))
    throw new InferkvError('ERR_INFERKV_CONFIG_INVALID', '--keep-minutes must be a number from 0 up.');
  const issued = issueKey(old, new Date());
  const expiring = { ...old, expiresAt: new Date(Date.now() + minutes * MS_PER_MINUTE).toISOString() };
  const others = keys.filter((key) => key !== old);
  writeKeys(path, [...others, ...(minutes > 0 ? [expiring] : []), issued.stored]);
  show(issued, path, flags);
}

async function remove(id: string, flags: KeyFlags): Promise<void> {
  const path = await pathOf(flags);
  const keys = readKeys(path);
  const gone = find(keys, id);
  writeKeys(
    path,
    keys.filter((key) => key !== gone),
  );
  if (flags.json === true) printJson({ removed: id });
  else print(`The key ${id} is taken away.`);
}

function find(keys: readonly StoredKey[], id: string): StoredKey {
  const found = keys.find((key) => key.id === id);
  if (found !== undefined) return found;
  throw new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    `There is no key ${id}; "inferkv keys list" shows those there are.`,
  );
}

async function pathOf({ keysFile, config }: KeyFlags): Promise<string> {
  if (keysFile !== undefined) return keysFile;
  const loaded = await configOf(config === undefined ? {} : { config });
  const path = loaded.config.server?.keysFile;
  if (path !== undefined) return path;
  throw new InferkvError(
    'ERR_INFERKV_CONFIG_INVALID',
    'Say which file: --keys-file keys.json, or server.keysFile in the configuration.',
  );
}

function show({ text, stored }: IssuedKey, path: string, { json }: KeyFlags): void {
  const { id, tenant, role } = stored;
  if (json === true) printJson({ key: text, id, tenant, role });
  else print(`${text}\n\nKey ${id}, tenant ${tenant}, role ${role}; its digest is in ${path}. It is not shown again.`);
}
