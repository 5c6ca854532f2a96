import { findRepository } from '../../git/repository.ts';
import { uninstallHooks } from '../../large-files/hook-files.ts';
import { uninstall } from '../../large-files/install.ts';
import { uninstallLfs } from '../../large-files/lfs-install.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type CommandContext, defineCommand, NO_OPERANDS } from '../command.ts';
import { chosenScope, describeChange, SCOPE_OPTIONS } from '../config-scope.ts';
import { formatBytes } from '../output.ts';
import { describeHookChange } from './xet-install.ts';

export const xetUninstall = defineCommand({
  path: ['xet', 'uninstall'],
  summary: 'Undo "git2db xet install"',
  description: `Removes exactly what "git2db xet install" wrote: a key that holds another value
stays and is named. Files, .gitattributes and stored contents are not touched;
without the filter, git takes the pointers for the files and adds full contents.

What "git2db xet install --lfs" replaced is put back: git-lfs's configuration, and
inside a repository its hooks. With --lfs, only that is undone.

JSON: {"scope","changes":[{"key","from","to"}],"hooks":[{"name","place","from",
"to"}],"kept":[{"key","value","scope"}]}; "to" is null where a key was removed.`,
  operands: NO_OPERANDS,
  options: {
    ...SCOPE_OPTIONS,
    lfs: { type: 'boolean', describe: 'Only what --lfs installed: git-lfs serves filter=lfs again' },
  },
  examples: [
    ['git2db xet uninstall --local', 'this repository only'],
    ['git2db xet uninstall --lfs', 'back to git-lfs'],
  ],
  exitCodes: [],
  async run({ options }, { cwd, env, output, json }) {
    const scope = chosenScope(options);
    const forXet = options.lfs ? { changes: [], kept: [] } : await uninstall({ cwd, scope });
    const forLfs = await uninstallLfs({ cwd, scope });
    const changes = [...forXet.changes, ...forLfs.changes];
    const kept = [...forXet.kept, ...forLfs.kept];
    const inRepository = findRepository(cwd, env) !== undefined;
    const hooks = inRepository ? await uninstallHooks({ cwd, lfsOnly: options.lfs }) : [];
    if (inRepository && forLfs.changes.length > 0) await warnOfChunks(cwd, env, output);
    for (const change of changes) output.detail(describeChange(change));
    for (const change of hooks) output.detail(describeHookChange(change));
    for (const { key, value } of kept) {
      output.warn(`${key} = ${value} in the ${scope} configuration is not what git2db writes: left alone`);
    }
    if (json) {
      output.json({
        scope,
        changes: changes.map(({ key, from, to }) => ({ key, from: from ?? null, to: to ?? null })),
        hooks,
        kept,
      });
    } else if (changes.length + hooks.length > 0) {
      const what = options.lfs ? 'filter=lfs is no longer served by git2db by' : 'git2db is no longer in';
      output.note(`${what} the ${scope} git configuration`);
    } else {
      output.note(`git2db was not in the ${scope} git configuration`);
    }
    return 0;
  },
});

/** Git-lfs looks for contents in a place of its own. A history that cannot be walked is not for this command to tell of. */
async function warnOfChunks(
  cwd: string,
  env: NodeJS.ProcessEnv,
  output: CommandContext['output'],
): Promise<void> {
  try {
    const { restoreLfs } = await import('../large-files-library.ts');
    const { restored, restoredBytes } = await restoreLfs({ cwd, env, dryRun: true });
    if (restored === 0) return;
    output.warn(
      `${restored} LFS ${restored === 1 ? 'object is' : 'objects are'} (${formatBytes(restoredBytes)}) in the chunk store alone, where git-lfs does not look: "git2db xet migrate lfs --back" writes them to its objects`,
    );
  } catch (error) {
    if (!(error instanceof Git2dbError)) throw error;
  }
}
