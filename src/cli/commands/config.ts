import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import type { ExplainedSetting } from '../../registry/index.ts';
import { Git2dbError } from '../../xet/errors.ts';
import { type CommandContext, defineCommand } from '../command.ts';
import { nearest } from '../nearest.ts';
import { formatTable } from '../output.ts';
import { printable } from '../present.ts';
import { loadLibrary } from '../registry-session.ts';

export const configCommand = defineCommand({
  path: ['config'],
  summary: 'Show settings, and where each comes from',
  description: `Shows the settings in force, or that of KEY alone: its name (worktreeDriver), or its spelling
in the file (worktree.driver), in git's configuration (git2db.worktreeDriver) or in the
environment (GIT2DB_WORKTREE_DRIVER). --explain tells where each value comes from, what
it overrides, and how to set it. The order is: environment, git's configuration, the file
~/.config/git2db/config.toml, defaults. Of a token it is told whether it is set, no more.

JSON: {"file","warnings","settings":[{"name","value","source","where","secret",
"overridden":[{"value","source","where"}],"spellings":{"environment","git","file"}}]};
with KEY just that setting's object. "source" is environment, git, file or default;
"value" is null where nothing is set.`,
  operands: { usage: '[KEY]', min: 0, max: 1 },
  options: { explain: { type: 'boolean', describe: 'Tell where values come from, and how to set them' } },
  examples: [
    ['git2db config worktree.driver', 'one of them'],
    ['git2db config --explain', 'why is it so?'],
  ],
  exitCodes: [
    [EXIT_FALSE, 'KEY is known, and not set'],
    [7, 'A value cannot be, or a file is broken; the place is told'],
  ],
  async run({ options, operands }, context) {
    const { output, json, cwd } = context;
    const { explainConfig } = await loadLibrary();
    const explanation = explainConfig({ cwd, env: context.env as NodeJS.ProcessEnv });
    for (const warning of explanation.warnings) output.warn(warning);
    const key = operands[0];
    if (key === undefined) {
      if (json) output.json(explanation);
      else if (options.explain) {
        output.note(`file: ${explanation.file ?? 'none'}`);
        for (const setting of explanation.settings) explain(setting, context);
      } else {
        const rows = explanation.settings.map((setting) => [setting.name, shown(setting.value)]);
        for (const line of formatTable([{ title: '' }, { title: '' }], rows)) output.data(line);
      }
      return EXIT_OK;
    }
    const setting = find(key, explanation.settings);
    if (json) output.json(setting);
    else if (options.explain) explain(setting, context);
    else if (setting.value !== null) output.data(shown(setting.value));
    return setting.value === null ? EXIT_FALSE : EXIT_OK;
  },
});

function find(key: string, settings: readonly ExplainedSetting[]): ExplainedSetting {
  const words = ({ name, spellings }: ExplainedSetting) =>
    [name, spellings.environment, spellings.git, spellings.file].filter((word) => word !== null);
  const wanted = key.toLowerCase();
  const found = settings.find((setting) => words(setting).some((word) => word.toLowerCase() === wanted));
  if (found !== undefined) return found;
  const close = nearest(key, settings.flatMap(words));
  const hint = close === undefined ? "'git2db config' lists them" : `did you mean '${close}'?`;
  throw new Git2dbError('USAGE', `there is no setting '${key}'; ${hint}`);
}

function explain(
  { name, value, where, overridden, spellings }: ExplainedSetting,
  { output }: CommandContext,
): void {
  output.data(`${output.style('bold', name)} = ${shown(value)}`);
  output.data(printable(`  from ${where}`));
  for (const other of overridden)
    output.data(printable(`  instead of ${shown(other.value)} from ${other.where}`));
  const ways = [
    spellings.environment,
    spellings.git && `git config ${spellings.git}`,
    spellings.file && `${spellings.file} in the file`,
  ];
  output.data(`  set by ${ways.filter(Boolean).join(', or ')}`);
}

function shown(value: string | number | null): string {
  return value === null ? '(not set)' : printable(String(value));
}
