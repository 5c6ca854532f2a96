/**
 * The places that a repository may name in its `.gitxet` although they are on another authority than its
 * remote: what `git2db xet trust URL` was told. Kept outside of every repository, one canonical URL a line, in
 * `${XDG_STATE_HOME:-~/.local/state}/git2db/trusted`, readable for its owner alone.
 */
import { chmodSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { makeDirectories } from '../make-directories.ts';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';
import { placeKey } from './place-url.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const MAX_BYTES = 1024 * 1024;

/** Where the list is kept. Throws INVALID_CONFIG without a home directory. */
export function trustedFile(env: Environment): string {
  const state = env.XDG_STATE_HOME;
  if (state !== undefined && isAbsolute(state)) return join(state, 'git2db', 'trusted');
  const home = env.HOME;
  if (home === undefined || !isAbsolute(home)) {
    throw new Git2dbError('INVALID_CONFIG', 'neither XDG_STATE_HOME nor HOME is an absolute path: set HOME');
  }
  return join(home, '.local', 'state', 'git2db', 'trusted');
}

/** Canonical URLs, in the order they were added; none where there is no file or no home directory. */
export function listTrusted(env: Environment): string[] {
  let file: string;
  try {
    file = trustedFile(env);
  } catch (error) {
    if (error instanceof Git2dbError) return [];
    throw error;
  }
  let text: string;
  try {
    const stat = statSync(file);
    // Somebody else's list is nobody's trust of ours.
    const own = process.getuid?.();
    if (own !== undefined && stat.uid !== own && stat.uid !== 0) {
      throw new Git2dbError('INVALID_CONFIG', `${file} belongs to user ${stat.uid}, not to you: remove it`);
    }
    if (stat.size > MAX_BYTES) {
      throw new Git2dbError(
        'INVALID_CONFIG',
        `${file} has ${stat.size} bytes, expected at most ${MAX_BYTES}`,
      );
    }
    text = readFileSync(file, 'utf8');
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return [];
    throw error;
  }
  return text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

/** False if it was there already. Throws URL_INVALID for what is no address of a store. */
export function addTrusted(url: string, env: Environment): boolean {
  const key = placeKey(url);
  const listed = listTrusted(env);
  if (listed.includes(key)) return false;
  save([...listed, key], env);
  return true;
}

/** False if it was not there. */
export function removeTrusted(url: string, env: Environment): boolean {
  const key = placeKey(url);
  const listed = listTrusted(env);
  if (!listed.includes(key)) return false;
  save(
    listed.filter((other) => other !== key),
    env,
  );
  return true;
}

function save(urls: readonly string[], env: Environment): void {
  const file = trustedFile(env);
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    makeDirectories(dirname(file), 0o700);
    writeFileSync(temporary, urls.map((url) => `${url}\n`).join(''), { mode: 0o600, flag: 'wx' });
    chmodSync(temporary, 0o600);
    renameSync(temporary, file);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw new Git2dbError('INVALID_CONFIG', `${file} cannot be written: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
