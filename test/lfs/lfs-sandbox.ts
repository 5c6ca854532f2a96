/** A sandbox whose repositories have both drivers: `*.bin` is filter=lfs by our program, `*.xet` filter=xet. */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, realpathSync, symlinkSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { findRepository } from '../../src/git/repository.ts';
import type { LfsObject, LfsPlace } from '../../src/lfs/objects.ts';
import { createXetSandbox, type XetRepository, type XetSandbox } from '../helpers/xet-sandbox.ts';

const PROGRAM = fileURLToPath(new URL('../../../dist/bin/git2db-lfs-filter.js', import.meta.url));

export const LFS_ATTRIBUTES = '*.bin filter=lfs diff=lfs merge=lfs -text\n*.xet filter=xet -text\n';

/** git-lfs's own driver, as `git lfs install` writes it. */
export const GIT_LFS_DRIVER: Readonly<Record<string, string>> = {
  'filter.lfs.process': 'git-lfs filter-process',
  'filter.lfs.required': 'true',
  'filter.lfs.clean': 'git-lfs clean -- %f',
  'filter.lfs.smudge': 'git-lfs smudge -- %f',
};

export const HAS_GIT_LFS = spawnSync('git-lfs', ['version']).status === 0;

export function createLfsSandbox(
  t: ExecutionContext,
  config: Readonly<Record<string, string>> = {},
): XetSandbox {
  const bin = realpathSync(mkdtempSync(join(tmpdir(), 'git2db-bin-')));
  t.teardown(() => rm(bin, { recursive: true, force: true }));
  symlinkSync(PROGRAM, join(bin, 'git2db-lfs-filter'));
  return createXetSandbox(t, {
    path: [bin],
    config: { 'filter.lfs.process': 'git2db-lfs-filter', 'filter.lfs.required': 'true', ...config },
  });
}

export function lfsRepository(sandbox: XetSandbox, name = 'repository'): Promise<XetRepository> {
  return sandbox.repository(name, LFS_ATTRIBUTES);
}

export function objectOf(content: Uint8Array): LfsObject {
  return { sha256: createHash('sha256').update(content).digest('hex'), size: content.length };
}

export function pointerOf(content: Uint8Array): string {
  const { sha256, size } = objectOf(content);
  return `version https://git-lfs.github.com/spec/v1\noid sha256:${sha256}\nsize ${size}\n`;
}

/** What the functions of src/lfs are told about a repository of the sandbox. */
export function placeOf(
  sandbox: XetSandbox,
  { dir }: Pick<XetRepository, 'dir'>,
  settings: Partial<LfsPlace> = {},
): LfsPlace {
  const env = { ...sandbox.env };
  const repository = findRepository(dir, env);
  if (repository === undefined) throw new Error(`${dir} is no repository`);
  return { repository, cwd: dir, env, mayPrompt: false, isTrusted: () => false, ...settings };
}
