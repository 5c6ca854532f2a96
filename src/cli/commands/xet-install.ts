import { findRepository } from '../../git/repository.ts';
import { checkHooks, type HookChange, installHooks } from '../../large-files/hook-files.ts';
import { FILTER_PROGRAM, findProgram, type InstallScope, install } from '../../large-files/install.ts';
import { installLfs, LFS_FILTER_PROGRAM } from '../../large-files/lfs-install.ts';
import { type CommandContext, defineCommand, NO_OPERANDS } from '../command.ts';
import { chosenScope, describeChange, SCOPE_OPTIONS } from '../config-scope.ts';

export const xetInstall = defineCommand({
  path: ['xet', 'install'],
  summary: 'Set git up to run the filter',
  description: `Tells git to run ${FILTER_PROGRAM} for files with filter=xet in .gitattributes. Once for
each user is enough; run it again at any time, it changes only what differs.

It writes filter.xet.process, filter.xet.required and diff.xet.wordRegex (which
makes "git diff --word-diff" mark just the size and the hash of a changed
pointer). A value that something else wrote is shown and left alone, and nothing
is changed, unless --force is given.

Inside a repository it also installs a pre-push hook, which sends the content of
large files before the refs move: a pushed pointer without content is lost for
everybody else. --no-hooks leaves that out. Another pre-push hook is never
overwritten; --chain-hooks keeps it and runs it after ours.

With --lfs, files with filter=lfs are served too, by ${LFS_FILTER_PROGRAM}: their
pointers stay those of Git LFS, which git-lfs elsewhere reads as ever. What
git-lfs has in the configuration and in the repository's hooks is replaced, and
comes back with "git2db xet uninstall".

JSON: {"scope","changes":[{"key","from","to"}],"hooks":[{"name","place","from",
"to"}],"overridden":[{"key","value","scope"}],"filterPath"}; "from" and "to" are
null where a key is not set, and missing, ours, git-lfs or foreign for a hook;
"filterPath" is null when ${FILTER_PROGRAM} is not on PATH.`,
  operands: NO_OPERANDS,
  options: {
    ...SCOPE_OPTIONS,
    'skip-smudge': {
      type: 'boolean',
      describe: 'Leave pointers in the work tree at checkout (xet.skipSmudge); without it, undo that',
    },
    force: { type: 'boolean', describe: 'Replace values that something else wrote' },
    lfs: { type: 'boolean', describe: 'Serve files with filter=lfs, too, in place of git-lfs' },
    'no-hooks': { type: 'boolean', describe: "Leave the repository's hooks alone" },
    'chain-hooks': {
      type: 'boolean',
      describe: 'Keep a pre-push hook that is there, and run it after ours',
      conflicts: ['no-hooks'],
    },
  },
  examples: [
    ['git2db xet install', 'for you, in every repository'],
    ['git2db xet install --local --skip-smudge', 'this repository only; fetch contents when wanted'],
    ['git2db xet install --lfs', 'in place of git-lfs'],
  ],
  exitCodes: [[8, 'A key holds a value, or a hook stands there, that something else wrote']],
  async run({ options }, context) {
    const { cwd, env, output, json } = context;
    const scope = chosenScope(options);
    const { lfs, force } = options;
    const hooks = { cwd, lfs, chain: options['chain-hooks'] };
    const withHooks = !options['no-hooks'] && findRepository(cwd, env) !== undefined;
    if (withHooks) await checkHooks(hooks);
    const skipSmudge = options['skip-smudge'];
    const searchPath = env.PATH ?? '';
    const result = await install({ cwd, scope, skipSmudge, force, searchPath });
    const forLfs = lfs ? await installLfs({ cwd, scope, force }) : undefined;
    const changes = [...result.changes, ...(forLfs?.changes ?? [])];
    const hookChanges = withHooks ? await installHooks(hooks) : [];
    for (const change of changes) output.detail(describeChange(change));
    for (const change of hookChanges) output.detail(describeHookChange(change));
    if (forLfs?.didSkip === true && !skipSmudge) {
      output.warn(
        'git-lfs was installed with --skip-smudge here, and contents are written at checkout from now on; --skip-smudge keeps pointers',
      );
    }
    for (const { key, value, scope: stronger } of result.overridden) {
      output.warn(`the ${stronger} configuration says ${key} = ${value}, which wins here`);
    }
    if (result.filterPath === undefined) warnMissingProgram(context, scope, FILTER_PROGRAM, 'xet');
    if (lfs && findProgram(LFS_FILTER_PROGRAM, searchPath) === undefined)
      warnMissingProgram(context, scope, LFS_FILTER_PROGRAM, 'lfs');
    if (json) {
      output.json({
        scope,
        changes: changes.map(({ key, from, to }) => ({ key, from: from ?? null, to: to ?? null })),
        hooks: hookChanges,
        overridden: result.overridden,
        filterPath: result.filterPath ?? null,
      });
    } else {
      output.note(
        `git2db is ${changes.length + hookChanges.length === 0 ? 'already ' : ''}installed in the ${scope} git configuration`,
      );
    }
    return 0;
  },
});

/** What became of a hook, for a person. */
export function describeHookChange({ name, place, from, to }: HookChange): string {
  const before = from === 'missing' ? '' : ` (was ${from === 'foreign' ? 'of something else' : from})`;
  return to === 'missing' ? `removed ${place}${before}` : `wrote ${place}, ${to} hook for ${name}${before}`;
}

function warnMissingProgram(
  { output }: CommandContext,
  scope: InstallScope,
  program: string,
  driver: 'xet' | 'lfs',
): void {
  const whose = scope === 'system' ? "every user's PATH" : 'PATH';
  output.warn(
    `${program} is not on PATH, and git will fail on files with filter=${driver} until it is; ` +
      `put the folder that holds it on ${whose}`,
  );
}
