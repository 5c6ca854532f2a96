/** An environment as changes to that of this process, which is how the runner of git takes it. */
export function wholeEnvironment(env: NodeJS.ProcessEnv | undefined): Record<string, string | undefined> {
  if (env === undefined) return {};
  const changes: Record<string, string | undefined> = {};
  for (const name of Object.keys(process.env)) if (env[name] === undefined) changes[name] = undefined;
  for (const [name, value] of Object.entries(env)) if (!NAMES_A_REPOSITORY.test(name)) changes[name] = value;
  return changes;
}

/** What would lead git elsewhere than its directory does. */
const NAMES_A_REPOSITORY =
  /^GIT_(?:ALTERNATE_OBJECT_DIRECTORIES|COMMON_DIR|CONFIG|DIR|GRAFT_FILE|IMPLICIT_WORK_TREE|INDEX_FILE|INTERNAL_SUPER_PREFIX|OBJECT_DIRECTORY|PREFIX|SHALLOW_FILE|WORK_TREE)$/;

/** An environment by itself, for code that takes a whole one: `env`, or that of this process. */
export function fullEnvironment(env: NodeJS.ProcessEnv | undefined): NodeJS.ProcessEnv {
  const full: NodeJS.ProcessEnv = {};
  for (const [name, value] of Object.entries({ ...process.env, ...wholeEnvironment(env) }))
    if (value !== undefined && !NAMES_A_REPOSITORY.test(name) && !READS_PATHS.test(name)) full[name] = value;
  return full;
}

/** What would change the meaning of our own pathspecs. */
const READS_PATHS = /^GIT_(?:PREFIX|(?:LITERAL|GLOB|NOGLOB|ICASE)_PATHSPECS)$/;
