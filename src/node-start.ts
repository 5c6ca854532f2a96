/**
 * NODE_EXTRA_CA_CERTS without its price: Node reads and parses all certificates of that file when it starts, 70 ms
 * with Debian's bundle where all else takes 40. Our programs are started by a few lines of sh
 * (`scripts/program-start.sh`) that leave it to Node under the name below, which means: Node has not read the file,
 * who speaks TLS does (`xet/cas/authorities.ts`).
 */
const SHOWN = 'NODE_EXTRA_CA_CERTS';
const HIDDEN = 'GIT2DB_NODE_EXTRA_CA_CERTS';

type Environment = Readonly<Record<string, string | undefined>>;

/** First thing in a program: other programs that it starts find the variable as it was given. */
export function restoreEnvironment(): void {
  const file = process.env[HIDDEN];
  if (file !== undefined) process.env[SHOWN] = file;
}

/** The environment for one of our own programs that is started by Node and not by its first lines of sh. */
export function quickStart(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { [SHOWN]: file, ...rest } = env;
  return file === undefined || file === '' ? env : { ...rest, [HIDDEN]: file };
}

/** The same as words before a command. */
export function quickStartWords(env: Environment): readonly string[] {
  const file = env[SHOWN];
  return file === undefined || file === '' ? [] : ['env', '-u', SHOWN, `${HIDDEN}=${file}`];
}

/** The file of certificates that Node would have read; undefined where it has, or there is none. */
export function extraAuthoritiesFile(env: Environment): string | undefined {
  return env[HIDDEN];
}
