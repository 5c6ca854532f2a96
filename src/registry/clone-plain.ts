/** A clone into a directory, in no registry. */
import { existsSync, readdirSync, realpathSync, renameSync, rmdirSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { makeDirectories } from '../make-directories.ts';
import { Git2dbError } from '../xet/errors.ts';
import { askRemote, makeClone } from './clone-engine.ts';
import { type CloneOptions, checkCloneOptions } from './clone-options.ts';
import { checkAborted } from './errors.ts';
import type { GitManager } from './git-manager.ts';
import { OWN_PREFIX } from './registry-layout.ts';
import { parseRemoteUrl } from './remote-url.ts';

/**
 * `directory` is missing or empty, and then holds the whole repository or is as it was. Throws REFUSED for
 * one that holds something. Made beside it and renamed.
 */
export async function cloneToDirectory(
  manager: GitManager,
  url: string,
  directory: string,
  given: CloneOptions,
): Promise<void> {
  if (given.name !== undefined || given.metadata !== undefined) {
    throw new Git2dbError(
      'USAGE',
      'name and metadata are for a registry; a clone into a directory has neither',
    );
  }
  const options = checkCloneOptions(given);
  const remote = parseRemoteUrl(url);
  const target = resolve(directory);
  checkFree(target);
  makeDirectories(dirname(target));
  const parent = realpathSync(dirname(target));
  await manager.run(
    `clone of ${remote.url} into ${target}`,
    async () => {
      const scratch = await mkdtemp(join(parent, `${OWN_PREFIX}-clone-`));
      try {
        const request = {
          remote,
          givenUrl: url,
          options,
          config: manager.config,
          env: manager.env,
          store: undefined,
        };
        options.progress?.({ kind: 'stage', stage: 'connecting' });
        await using question = await askRemote(request, scratch);
        const repository = join(scratch, 'repository');
        await makeClone(request, repository, question);
        checkAborted(options.signal, `the clone of ${remote.url}`);
        options.progress?.({ kind: 'stage', stage: 'finishing' });
        checkFree(target);
        if (existsSync(target)) rmdirSync(target);
        renameSync(repository, join(parent, basename(target)));
      } finally {
        await rm(scratch, { recursive: true, force: true, maxRetries: 5 });
      }
    },
    { signal: options.signal },
  );
}

function checkFree(target: string): void {
  let names: string[] = [];
  try {
    names = readdirSync(target);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw new Git2dbError(
      'REFUSED',
      `expected a missing or empty directory at ${target}, found something else: choose another`,
      {
        cause,
        data: { path: target },
      },
    );
  }
  if (names.length === 0) return;
  throw new Git2dbError(
    'REFUSED',
    `expected a missing or empty directory at ${target}, found ${names.length} entries in it: choose another`,
    {
      data: { path: target },
    },
  );
}
