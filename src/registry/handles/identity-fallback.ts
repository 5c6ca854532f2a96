/**
 * Who commits where git was told nobody: our configuration (`git.name`, `git.email`) says it then, to git's own
 * commands, by their environment. What git was told always goes first.
 */
import type { GitArg } from '../../git/byte-words.ts';
import type { GitManager } from '../git-manager.ts';
import type { GitPlace, PlaceRun } from '../git-place.ts';

/** Commands that write commits or tags; the first list also takes an author from the environment. */
const WITH_AUTHOR: readonly GitArg[] = ['commit', 'commit-tree', 'merge', 'revert', 'stash'];
const WITH_COMMITTER: readonly GitArg[] = ['cherry-pick', 'rebase', 'tag', ...WITH_AUTHOR];

/** `place`, whose runs know the manager's configured identity. The same place where none is configured. */
export function withIdentity(
  place: GitPlace,
  manager: Pick<GitManager, 'config' | 'signature'> | undefined,
): GitPlace {
  if (manager?.config.gitName === undefined && manager?.config.gitEmail === undefined) return place;
  return new IdentifiedPlace(place, manager);
}

class IdentifiedPlace implements GitPlace {
  readonly #place: GitPlace;
  readonly #manager: Pick<GitManager, 'signature'>;

  constructor(place: GitPlace, manager: Pick<GitManager, 'signature'>) {
    this.#place = place;
    this.#manager = manager;
  }

  get commonDir(): string {
    return this.#place.commonDir;
  }

  get gitDir(): string {
    return this.#place.gitDir;
  }

  get workTree(): string | undefined {
    return this.#place.workTree;
  }

  get trusted(): boolean {
    return this.#place.trusted;
  }

  get reachable(): boolean {
    return this.#place.reachable;
  }

  get env(): NodeJS.ProcessEnv {
    return this.#place.env;
  }

  get objects(): GitPlace['objects'] {
    return this.#place.objects;
  }

  async git(args: readonly GitArg[], options: PlaceRun = {}) {
    return this.#place.git(args, await this.#identified(args, options));
  }

  async text(args: readonly GitArg[], options: PlaceRun = {}) {
    return this.#place.text(args, await this.#identified(args, options));
  }

  async linesZ(args: readonly GitArg[], options: PlaceRun = {}) {
    return this.#place.linesZ(args, await this.#identified(args, options));
  }

  /** Nothing that writes commits is read as a stream. */
  stream(...call: Parameters<GitPlace['stream']>) {
    return this.#place.stream(...call);
  }

  close(): Promise<void> {
    return this.#place.close();
  }

  async #identified(args: readonly GitArg[], options: PlaceRun): Promise<PlaceRun> {
    if (!WITH_COMMITTER.includes(args[0]!)) return options;
    const env: Record<string, string> = {};
    const roles = WITH_AUTHOR.includes(args[0]!)
      ? (['author', 'committer'] as const)
      : (['committer'] as const);
    for (const role of roles) {
      const prefix = `GIT_${role.toUpperCase()}`;
      if (options.env?.[`${prefix}_NAME`] !== undefined && options.env[`${prefix}_EMAIL`] !== undefined)
        continue;
      const { name, email } = await this.#manager.signature({
        role,
        cwd: this.gitDir,
        signal: options.signal,
      });
      env[`${prefix}_NAME`] = name;
      env[`${prefix}_EMAIL`] = email;
    }
    return { ...options, env: { ...env, ...options.env } };
  }
}
