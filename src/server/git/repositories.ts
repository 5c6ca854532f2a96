/**
 * The bare repositories below one directory: `<root>/<name>.git`, where a name has one to three parts
 * (`project`, `user/model`, `datasets/user/data`). Whatever a URL says, nothing outside the root is reached:
 * names are checked by their characters, and where they lead by the real path.
 */

import { randomBytes } from 'node:crypto';
import { existsSync, realpathSync } from 'node:fs';
import { readdir, rename, rm } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import { git } from '../../git/runner.ts';
import { makeDirectories } from '../../make-directories.ts';
import { errnoOf, Git2dbError, messageOf } from '../../xet/errors.ts';
import { StoreLayout } from '../../xet/store/layout.ts';
import { registerUser } from '../../xet/store/users.ts';
import { HttpError } from '../http-error.ts';
import { bareEnvironment } from './environment.ts';
import type { PushHook } from './push-hook.ts';

export interface BareRepository {
  /** Without `.git`. */
  readonly name: string;
  /** Its git directory: an absolute path without symbolic links. */
  readonly path: string;
}

export interface RepositoriesOptions {
  readonly create: boolean;
  readonly storeDirectory: string | undefined;
  readonly hook: PushHook;
}

const PART = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$/;
/** First parts that are other addresses of the server. */
const RESERVED = new Set(['api', 'v1', 'v2', 'health', 'healthz', 'metrics', 'openapi.json']);

/** Throws NAME_INVALID. `.git` at the end of `text` is left out. */
export function checkRepositoryName(text: string): string {
  const name = text.endsWith('.git') ? text.slice(0, -'.git'.length) : text;
  const parts = name.split('/');
  const isFine = (part: string) =>
    PART.test(part) && !part.includes('..') && !/\.(?:git|lock)$/i.test(part) && !part.endsWith('.');
  if (parts.length <= 3 && parts.every(isFine) && !RESERVED.has(parts[0] as string)) return name;
  throw new Git2dbError(
    'NAME_INVALID',
    `'${text.slice(0, 200)}' is no name of a repository: one to three parts of letters, digits and . _ -, as in user/model`,
  );
}

/** Makes the bare repository `<root>/<name>.git`. NAME_TAKEN if it is there. */
export async function createRepository(root: string, name: string): Promise<string> {
  const path = `${join(root, checkRepositoryName(name))}.git`;
  if (existsSync(path)) throw new Git2dbError('NAME_TAKEN', `${path} is there already`);
  makeDirectories(dirname(path));
  if (!isBelow(realpathSync(dirname(path)), realpathSync(root))) {
    throw new Git2dbError('NAME_INVALID', `${path} leads out of ${root}`);
  }
  // Under another name first: two at once, or a kill, leave a whole repository or none.
  const temporary = `${path}.${randomBytes(6).toString('hex')}.new`;
  try {
    await git(['init', '--quiet', '--bare', '--initial-branch=main', '--end-of-options', temporary], {
      env: bareEnvironment({}),
    });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    if (errnoOf(error) === 'ENOTEMPTY' || errnoOf(error) === 'EEXIST') {
      throw new Git2dbError('NAME_TAKEN', `${path} is there already`, { cause: error });
    }
    throw error;
  }
  return path;
}

export class Repositories {
  readonly hook: PushHook;
  readonly mayCreate: boolean;
  readonly #root: string;
  readonly #store: StoreLayout | undefined;
  readonly #entered = new Set<string>();

  private constructor(root: string, options: RepositoriesOptions) {
    this.#root = root;
    this.hook = options.hook;
    this.mayCreate = options.create;
    this.#store = options.storeDirectory === undefined ? undefined : new StoreLayout(options.storeDirectory);
  }

  /** The directory is made where there is none. Throws INVALID_CONFIG when it cannot be used. */
  static open(root: string, options: RepositoriesOptions): Repositories {
    try {
      makeDirectories(root);
      return new Repositories(realpathSync(root), options);
    } catch (error) {
      throw new Git2dbError(
        'INVALID_CONFIG',
        `cannot use the directory of repositories ${root}: ${messageOf(error)}`,
        {
          cause: error,
        },
      );
    }
  }

  /** The repository of this name (with or without `.git`); undefined when there is none. Throws NAME_INVALID. */
  find(text: string): BareRepository | undefined {
    const name = checkRepositoryName(text);
    let path: string;
    try {
      path = realpathSync(`${join(this.#root, name)}.git`);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
      throw error;
    }
    if (!isBelow(path, this.#root) || !existsSync(join(path, 'HEAD'))) return undefined;
    this.#enter(path);
    return { name, path };
  }

  /** As `find`; throws 404. */
  get(text: string): BareRepository {
    const found = this.find(text);
    if (found === undefined) throw new HttpError(404, `there is no repository ${checkRepositoryName(text)}`);
    return found;
  }

  /** As `get`, but makes it where that is allowed. */
  async getOrCreate(text: string): Promise<BareRepository> {
    const found = this.find(text);
    if (found !== undefined || !this.mayCreate) return found ?? this.get(text);
    try {
      await createRepository(this.#root, checkRepositoryName(text));
    } catch (error) {
      // Somebody else has just made it.
      if (!(error instanceof Git2dbError) || error.code !== 'NAME_TAKEN') throw error;
    }
    return this.get(text);
  }

  /** Enters every repository that is there among the users of the store, so that gc sees what they refer to. */
  async enterAll(): Promise<void> {
    if (this.#store === undefined) return;
    for (const name of await this.list()) this.find(name);
  }

  /** Names of all repositories. */
  async list(): Promise<string[]> {
    const names: string[] = [];
    const scan = async (prefix: string, depth: number): Promise<void> => {
      for (const entry of await readdir(join(this.#root, prefix), { withFileTypes: true })) {
        if (!entry.isDirectory()) continue;
        const name = prefix + entry.name;
        if (entry.name.endsWith('.git')) {
          if (existsSync(join(this.#root, name, 'HEAD'))) names.push(name.slice(0, -'.git'.length));
        } else if (depth < 3) await scan(`${name}/`, depth + 1);
      }
    };
    await scan('', 1);
    return names.filter((name) => {
      try {
        return checkRepositoryName(name) === name;
      } catch {
        return false;
      }
    });
  }

  #enter(path: string): void {
    if (this.#store === undefined || this.#entered.has(path)) return;
    registerUser(this.#store, path);
    this.#entered.add(path);
  }
}

function isBelow(path: string, root: string): boolean {
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}
