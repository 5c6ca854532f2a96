import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

/** A place for a key file, where none is yet. */
export function createServerKeyFile(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'git2db-key-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, 'state', 'server.key');
}
