import { readFileSync, readlinkSync } from 'node:fs';

import type { WallClock } from '../../base/clock.ts';
import type { Tables, WriterRow } from './environment.ts';

// Of a process whose number means nothing here, by another container say, only its beat tells that it lives.
const SILENT_MS = 60_000;
const OWN_SPACE = spaceOf();
const OWN_START = startOf(process.pid) ?? '';

/** The row of this process. */
export function ownRow(wallClock: WallClock): WriterRow {
  return { pid: process.pid, startedAt: OWN_START, space: OWN_SPACE, beatMs: wallClock() };
}

/** Whether a writer's process lives. One that is taken for dead wrongly finds its segments closed, and begins others. */
export function isAlive(tables: Tables, writer: string, nowMs: number): boolean {
  const row = tables.writers.get(writer);
  if (row === undefined) return false;
  if (row.space !== OWN_SPACE) return Math.abs(nowMs - row.beatMs) < SILENT_MS;
  if (row.pid === process.pid && row.startedAt === OWN_START) return true;
  const startedAt = startOf(row.pid);
  if (startedAt !== undefined) return startedAt === row.startedAt;
  return isRunning(row.pid) && Math.abs(nowMs - row.beatMs) < SILENT_MS;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** The 22nd field of Linux's description, counted after the name, which may contain anything. */
function startOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

function spaceOf(): string {
  try {
    return `${readlinkSync('/proc/self/ns/pid')} ${readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()}`;
  } catch {
    return process.platform;
  }
}
