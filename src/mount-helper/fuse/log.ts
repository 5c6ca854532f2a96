/**
 * The server's log: lines on its standard error, which is a file, the terminal or nothing, as the command
 * that started it arranged. Both threads write to it.
 */
import { writeSync } from 'node:fs';

export function logLine(message: string, error?: unknown): void {
  const detail = error instanceof Error ? `: ${error.stack ?? error.message}` : '';
  try {
    writeSync(2, `${new Date().toISOString()} git2db-mount[${process.pid}] ${message}${detail}\n`);
  } catch {
    // A full disk or a closed terminal must not end the mount.
  }
}
