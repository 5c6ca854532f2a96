import { uninstall } from '../../large-files/install.ts';
import { defineCommand, NO_OPERANDS } from '../command.ts';
import { chosenScope, describeChange, SCOPE_OPTIONS } from '../config-scope.ts';

export const xetUninstall = defineCommand({
  path: ['xet', 'uninstall'],
  summary: 'Undo "git2db xet install"',
  description: `Removes exactly what "git2db xet install" wrote: a key that holds another value
stays and is named. Files, .gitattributes and stored contents are not touched;
without the filter, git takes the pointers for the files and adds full contents.

JSON: {"scope","changes":[{"key","from","to"}],"kept":[{"key","value","scope"}]};
"to" is null.`,
  operands: NO_OPERANDS,
  options: SCOPE_OPTIONS,
  examples: [['git2db xet uninstall --local', 'this repository only']],
  exitCodes: [],
  async run({ options }, { cwd, output, json }) {
    const scope = chosenScope(options);
    const { changes, kept } = await uninstall({ cwd, scope });
    for (const change of changes) output.detail(describeChange(change));
    for (const { key, value } of kept) {
      output.warn(`${key} = ${value} in the ${scope} configuration is not what git2db writes: left alone`);
    }
    if (json) {
      output.json({ scope, changes: changes.map(({ key, from }) => ({ key, from, to: null })), kept });
    } else if (changes.length > 0) {
      output.note(`git2db is no longer in the ${scope} git configuration`);
    } else {
      output.note(`git2db was not in the ${scope} git configuration`);
    }
    return 0;
  },
});
