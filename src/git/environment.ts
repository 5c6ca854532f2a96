/** The environment of every git that is run: inherited, without what would change what our arguments mean. */
import type { GitRun } from './runner.ts';

/**
 * What `git rev-parse --local-env-vars` lists, without GIT_CONFIG_PARAMETERS and GIT_CONFIG_COUNT:
 * those hold settings the user gave (`git -c`, a CI's safe.directory) and name no repository. Git
 * makes the same exception when it enters a submodule.
 */
const REPOSITORY_VARIABLES = [
  'GIT_ALTERNATE_OBJECT_DIRECTORIES',
  'GIT_CONFIG',
  'GIT_OBJECT_DIRECTORY',
  'GIT_DIR',
  'GIT_WORK_TREE',
  'GIT_IMPLICIT_WORK_TREE',
  'GIT_GRAFT_FILE',
  'GIT_INDEX_FILE',
  'GIT_NO_REPLACE_OBJECTS',
  'GIT_REPLACE_REF_BASE',
  'GIT_PREFIX',
  'GIT_INTERNAL_SUPER_PREFIX',
  'GIT_SHALLOW_FILE',
  'GIT_COMMON_DIR',
] as const;

/** `git --literal-pathspecs` and its like, inherited, would change what our own arguments mean. */
const PATHSPEC_VARIABLES = [
  'GIT_LITERAL_PATHSPECS',
  'GIT_GLOB_PATHSPECS',
  'GIT_NOGLOB_PATHSPECS',
  'GIT_ICASE_PATHSPECS',
] as const;

/** An environment as it is without what would lead git to another repository than `cwd` or GIT_DIR does. */
export function withoutRepository(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = { ...env };
  for (const name of [...REPOSITORY_VARIABLES, ...PATHSPEC_VARIABLES]) delete kept[name];
  return kept;
}

/** The environment every git run gets. */
export function gitEnvironment(
  options: Pick<GitRun, 'env' | 'keepGitEnv' | 'interactive'>,
): NodeJS.ProcessEnv {
  const env = options.keepGitEnv === true ? { ...process.env } : withoutRepository(process.env);
  if (options.interactive !== true) {
    env.LC_ALL = 'C';
    env.GIT_TERMINAL_PROMPT = '0';
    // A question such as `status` must not rewrite the index behind a user's running command.
    env.GIT_OPTIONAL_LOCKS = '0';
  }
  for (const [name, value] of Object.entries(options.env ?? {})) {
    if (value === undefined) delete env[name];
    else env[name] = value;
  }
  return env;
}
