import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** Folders of this process: it does not adopt its own. */
const own = new Set<string>();
/** Those that it has given up. */
const givenUp = new Set<string>();

/** A name for a folder that says whose it is: process id, when that process began, and something that nobody else has. */
export function makeOwnFolderName(): string {
  const name = `${process.pid}-${startOf(process.pid) ?? 'unknown'}-${randomBytes(6).toString('hex')}`;
  own.add(name);
  return name;
}

/** Gives up a folder of this process. */
export function disown(name: string): void {
  own.delete(name);
  givenUp.add(name);
}

/** Whether whoever made a folder of that name is gone; `undefined` if the name is no such. */
export function isAbandoned(name: string): boolean | undefined {
  const match = /^(?<pid>[1-9]\d*)-(?<start>[a-z0-9.]+)-[0-9a-f]{12}$/.exec(name);
  if (match?.groups === undefined) return undefined;
  if (own.has(name)) return false;
  if (givenUp.has(name)) return true;
  const { pid = '', start } = match.groups;
  // A process of that number may be another one, as numbers are used again: after a restart of a container, at once.
  const now = startOf(Number(pid));
  if (now !== undefined) return now !== start;
  return !isAlive(Number(pid));
}

/** When a process began, counted in ticks since the machine was started, and which start that was; `undefined` where that cannot be known. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').slice(0, 8);
    // The name in parentheses may hold anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return `${fields[19]}.${boot}`;
  } catch {
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
