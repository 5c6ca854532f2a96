import { EXIT_OK } from '../../exit-codes.ts';
import type { CloneOptions, CloneProgress } from '../../registry/index.ts';
import {
  type Command,
  type CommandContext,
  defineCommand,
  type OptionSpecs,
  type OptionValues,
} from '../command.ts';
import { GitBars, RECORD_KEYS, recordDocument } from '../present.ts';
import {
  AUTH_MANUAL,
  AUTH_OPTIONS,
  authOf,
  parsePairs,
  REGISTRY_OPTIONS,
  wholeNumber,
} from '../registry-options.ts';
import { withRegistry } from '../registry-session.ts';

const OPTIONS = {
  ...REGISTRY_OPTIONS,
  ref: {
    type: 'string',
    describe: 'What to check out: a branch, a tag, a full ref name or an object id',
    conflicts: ['branch', 'tag'],
  },
  branch: { type: 'string', alias: 'b', describe: 'Check out this branch', conflicts: ['tag'] },
  tag: { type: 'string', describe: 'Check out this tag' },
  depth: { type: 'number', describe: 'Commits of history to fetch', conflicts: ['shallow-since'] },
  'shallow-since': { type: 'string', describe: 'Fetch history after this date only' },
  filter: { type: 'string', describe: 'Fetch other objects later: blob:none, blob:limit=1m, tree:0' },
  sparse: {
    type: 'string',
    repeat: true,
    describe: 'Check out this directory and the files at the top; "." for those alone',
    conflicts: ['bare'],
  },
  bare: {
    type: 'boolean',
    describe: 'Without a work tree; worktrees can be added',
    conflicts: ['submodules'],
  },
  submodules: { type: 'string', choices: ['direct', 'recursive'], describe: 'Clone submodules too' },
  trust: { type: 'boolean', describe: 'Let hooks and programs of its own configuration run' },
  'no-hooks': {
    type: 'boolean',
    describe: 'Without the pre-push hook, by which a plain "git push" sends large files',
  },
  set: { type: 'string', repeat: true, describe: 'KEY=VALUE: a note of your own on it' },
  ...AUTH_OPTIONS,
} as const satisfies OptionSpecs;

export const cloneCommand: Command = defineCommand({
  path: ['clone'],
  summary: 'Clone a repository into the registry',
  description: `Clones URL into the registry, under NAME ("model" or "org/model"; the last part of the
URL unless given). Large files are checked out as such at once: the filter is set up in
the clone, and contents go to the store that the registry's repositories share.

The same again does nothing; another URL for a NAME that is taken is an error. Ctrl-C
leaves nothing; what a kill has left is gone on with by the next clone under that name.
Programs that the repository brings do not run unless --trust says so. A pre-push hook of
ours is installed, so that a plain "git push" in it, or in a worktree of it, sends the
content of large files; one that a template of yours has brought runs after it.

${AUTH_MANUAL}

JSON: ${RECORD_KEYS}; "path" is absolute.`,
  operands: { usage: 'URL [NAME]', min: 1, max: 2, complete: ['directory', 'repository'] },
  options: OPTIONS,
  examples: [
    ['git2db clone https://host/org/model org/model', 'by name from now on'],
    ['git2db clone ssh://git@host/model --depth 1 --branch v2', 'a branch, without its history'],
    ['git2db clone https://host/private --token-env MY_TOKEN', 'with a token'],
  ],
  exitCodes: [
    [51, 'The name is taken by a repository with another URL'],
    [52, 'The URL is not understood, or not allowed'],
    [58, 'The remote has no such branch, tag or commit'],
    [59, 'The remote wants other credentials'],
    [60, 'The remote cannot be reached'],
    [130, 'Interrupted'],
  ],
  async run({ options, operands }, context) {
    const [url, name] = operands as [string, string?];
    const { output, json } = context;
    const asked = cloneOptions(options, context);
    const bars = new CloneBars(context);
    return withRegistry(options, context, async ({ db, signal }) => {
      const before = db.generation;
      try {
        const record = await db.clone(url, {
          ...asked,
          name,
          signal,
          progress: (event) => bars.show(event),
        });
        bars.finish();
        const path = db.absolutePath(record);
        if (json) output.json(recordDocument(record, path));
        else output.note(`${db.generation === before ? 'there is' : 'cloned'} ${record.name} in ${path}`);
        return EXIT_OK;
      } finally {
        bars.finish();
      }
    });
  },
});

function cloneOptions(options: OptionValues<typeof OPTIONS>, context: CommandContext): CloneOptions {
  const { ref, branch, tag, filter, bare, sparse, submodules, trust } = options;
  const directories = sparse.filter((directory) => directory !== '.');
  return {
    ...authOf(options, context),
    ref,
    branch,
    tag,
    filter,
    bare,
    trust,
    depth: wholeNumber('depth', options.depth, 1),
    shallowSince: options['shallow-since'],
    sparse: sparse.length === 0 ? undefined : directories.length === 0 ? true : directories,
    hooks: !options['no-hooks'],
    submodules: submodules === 'recursive' ? 'recursive' : submodules === 'direct',
    metadata: options.set.length === 0 ? undefined : parsePairs('set', options.set),
  };
}

class CloneBars {
  readonly #context: CommandContext;
  readonly #bars: GitBars;

  constructor(context: CommandContext) {
    this.#context = context;
    this.#bars = new GitBars(context.output);
  }

  show(event: CloneProgress): void {
    const { output } = this.#context;
    if (event.kind === 'warning') {
      output.warn(event.message);
      return;
    }
    if (event.kind === 'git') {
      this.#bars.show(event);
      return;
    }
    this.#bars.finish();
    if (event.stage === 'waiting') output.note('waiting for another clone of this name');
    else if (event.resumed === true) output.note('going on with a clone that was interrupted');
    else output.detail(event.stage);
  }

  finish(): void {
    this.#bars.finish();
  }
}
