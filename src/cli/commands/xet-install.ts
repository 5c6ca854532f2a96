import { FILTER_PROGRAM, type InstallScope, install } from '../../large-files/install.ts';
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

JSON: {"scope","changes":[{"key","from","to"}],"overridden":[{"key","value","scope"}],
"filterPath"}; "from" and "to" are null where a key is not set, "filterPath" is
null when ${FILTER_PROGRAM} is not on PATH.`,
  operands: NO_OPERANDS,
  options: {
    ...SCOPE_OPTIONS,
    'skip-smudge': {
      type: 'boolean',
      describe: 'Leave pointers in the work tree at checkout (xet.skipSmudge); without it, undo that',
    },
    force: { type: 'boolean', describe: 'Replace values that something else wrote' },
  },
  examples: [
    ['git2db xet install', 'for you, in every repository'],
    ['git2db xet install --local --skip-smudge', 'this repository only; fetch contents when wanted'],
  ],
  exitCodes: [[8, 'A key holds a value that something else wrote']],
  async run({ options }, context) {
    const { cwd, env, output, json } = context;
    const scope = chosenScope(options);
    const result = await install({
      cwd,
      scope,
      skipSmudge: options['skip-smudge'],
      force: options.force,
      searchPath: env.PATH ?? '',
    });
    for (const change of result.changes) output.detail(describeChange(change));
    for (const { key, value, scope: stronger } of result.overridden) {
      output.warn(`the ${stronger} configuration says ${key} = ${value}, which wins here`);
    }
    if (result.filterPath === undefined) warnMissingProgram(context, scope);
    if (json) {
      output.json({
        scope,
        changes: result.changes.map(({ key, from, to }) => ({ key, from: from ?? null, to: to ?? null })),
        overridden: result.overridden,
        filterPath: result.filterPath ?? null,
      });
    } else {
      output.note(
        `git2db is ${result.changes.length === 0 ? 'already ' : ''}installed in the ${scope} git configuration`,
      );
    }
    return 0;
  },
});

function warnMissingProgram({ output }: CommandContext, scope: InstallScope): void {
  const whose = scope === 'system' ? "every user's PATH" : 'PATH';
  output.warn(
    `${FILTER_PROGRAM} is not on PATH, and git will fail on files with filter=xet until it is; ` +
      `put the folder that holds it on ${whose}`,
  );
}
