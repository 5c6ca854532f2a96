/**
 * Memory that is there when a measurement needs it. A virtual machine may have given its free pages to its host, and
 * then takes seconds of processor time for a gigabyte to get them back: whoever runs first would pay for all.
 */
import { freemem } from 'node:os';
import { run } from './run.ts';

const HOLD = `
const held = [];
for (let left = Number(process.argv[1]); left > 0; left -= 2 ** 26) held.push(Buffer.alloc(2 ** 26, 1));`;

/** Has so many bytes used and given back; at most half of what is free. */
export function touchMemory(bytes: number): void {
  if (bytes > 0) run([process.execPath, '-e', HOLD, String(Math.min(bytes, freemem() / 2))]);
}
